// Dithering: errors are diffused, then pixels choose again with what others miss in view.
//
// All numbers are whole, so that no order of operations matters. Coordinates are below 2^11, up to
// four of them, the missing ones 0; a squared distance is below 2^24, and in one number with the
// entry the least of them is the first of the nearest.
//
// A record is what is known of a pixel: its colour, and 1 + the entry that is just this colour, or
// 0. Four signed numbers of 16 bits are an entry of the palette, an error or a miss: entry minus
// colour. Misses have two empty rows and columns on each side, and those of every third column lie
// together, since those choose at a time.
//
// A cell is one of equal boxes of colours, and the entries that may be nearest to a target in it:
// ascending, the last repeated. Where they are more than SLOTS, a cell begins with 1, 0, how many
// there are, and where in `lists` they begin. That begins with all entries, for want of room.

const int MOST_ENTRIES = 256;
const int SLOTS = 8;  // a byte each of the 64 bits of a cell
const int AT_ONCE = 4;  // of a list, by each lane: reading them takes as long as reading one
const int BAND = 64;  // rows, as DIFFUSION_ROWS
const int SPAN = 4;  // pixels of a row between two barriers
const int LANES = WARP < 4 ? WARP : 4;  // that share the candidates of a pixel
const int BAND_THREADS = WARP == 1 ? 1 : BAND * LANES;
const int SHARE_BITS = 16;
const int HALF = 1 << (SHARE_BITS - 1);
const uint64 LISTED = 1;  // entry 1, then 0: not ascending

// Cells of 32 steps a side in three dimensions, 128 in four; 4 a side are listed together.
template <int D> DEVICE int cell_shift() { return D < 4 ? 5 : 7; }
template <int D> DEVICE int axis_bits() { return D < 4 ? 6 : 4; }

DEVICE int lesser(int a, int b) { return a < b ? a : b; }
DEVICE int greater(int a, int b) { return a > b ? a : b; }
DEVICE uint32 lesser(uint32 a, uint32 b) { return a < b ? a : b; }

DEVICE uint64 four(int a, int b, int c, int d) {
    uint32 low = (a & 0xffff) | (uint32)b << 16, high = (c & 0xffff) | (uint32)d << 16;
    return low | (uint64)high << 32;
}

DEVICE int one_of(uint64 four, int j) {
    int half = (int)(j < 2 ? (uint32)four : (uint32)(four >> 32));
    return j % 2 ? half >> 16 : (int)((uint32)half << 16) >> 16;
}

// The same where none is negative, as in an entry of the palette: in one instruction.
DEVICE int coordinate_of(uint64 entry, int j) {
    uint32 half = j < 2 ? (uint32)entry : (uint32)(entry >> 32);
    return (int)(j % 2 ? half >> 16 : half & 0xffff);
}

DEVICE uint64 record_of(const int *level, int own) {
    uint32 low = level[0] | level[1] << 11 | (uint32)(own + 1) << 22;
    return low | (uint64)(level[2] | level[3] << 11) << 32;
}

DEVICE int level_of(uint64 record, int j) {
    uint32 half = j < 2 ? (uint32)record : (uint32)(record >> 32);
    return (j % 2 ? half >> 11 : half) & 2047;
}

DEVICE int own_of(uint64 record) { return (int)((uint32)record >> 22) - 1; }

// What a pixel misses: how far its entry lies beyond its colour.
template <int D> DEVICE uint64 miss_of(uint64 entry, uint64 record) {
    int missed[4] = {0, 0, 0, 0};
    for (int j = 0; j < D; j++) missed[j] = coordinate_of(entry, j) - level_of(record, j);
    return four(missed[0], missed[1], missed[2], missed[3]);
}

// Where the misses of a row's pixel stand, the columns of which number -2 to w + 1.
DEVICE int third_of(int w) { return (w + 6) / 3; }
DEVICE int column_of(int x, int third) { return (x + 2) % 3 * third + (x + 2) / 3; }

template <int D> DEVICE void prepare(
    const float *colors, const int *inverse, const float *palette, const int *own,
    uint32 *box, uint64 *records, uint64 *entries, uint64 *misses, int blocks, int n,
    int h, int w, int k, int sweeps
) {
    SHARED uint32 extremes[8];
    int64 first = (int64)block_index() * thread_count() + thread_index();
    int64 stride = (int64)blocks * thread_count();
    FOR_THREADS(i, 8) extremes[i] = 0;
    sync_threads();
    uint32 own_extremes[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int64 i = first; i < n; i += stride)
        for (int j = 0; j < D; j++) {
            uint32 level = (uint32)colors[i * D + j];
            own_extremes[j] = level > own_extremes[j] ? level : own_extremes[j];
            level = 2047 - level;
            own_extremes[4 + j] = level > own_extremes[4 + j] ? level : own_extremes[4 + j];
        }
    for (int j = 0; j < 8; j++) {
        uint32 most = warp_max(own_extremes[j]);
        if (lane_index() == 0) raise_to(&extremes[j], most);
    }
    sync_threads();
    FOR_THREADS(i, 8) raise_to(&box[i], extremes[i]);
    for (int64 i = first; i < k; i += stride) {
        int level[4] = {0, 0, 0, 0};
        for (int j = 0; j < D; j++) level[j] = (int)palette[i * D + j];
        entries[i] = four(level[0], level[1], level[2], level[3]);
    }
    for (int64 i = first; i < (int64)h * w; i += stride) {
        int64 color = inverse[i];
        int level[4] = {0, 0, 0, 0};
        for (int j = 0; j < D; j++) level[j] = (int)colors[color * D + j];
        records[i] = record_of(level, own[color]);
    }
    if (!sweeps) return;
    int third = third_of(w);
    for (int64 i = first; i < (int64)(h + 4) * third; i += stride) {
        int64 y = i / third - 2;
        int x = (int)(i % third) * 3 - 2;
        for (int plane = 0; plane < 3; plane++)
            if (y < 0 || y >= h || x + plane < 0 || x + plane >= w)
                misses[((y + 2) * 3 + plane) * third + i % third] = 0;
    }
}

KERNEL(256) prepare_3(
    const float *colors, const int *inverse, const float *palette, const int *own,
    uint32 *box, uint64 *records, uint64 *entries, uint64 *misses, int blocks, int n,
    int h, int w, int k, int sweeps
) {
    prepare<3>(
        colors, inverse, palette, own, box, records, entries, misses, blocks, n, h, w, k, sweeps
    );
}

KERNEL(256) prepare_4(
    const float *colors, const int *inverse, const float *palette, const int *own,
    uint32 *box, uint64 *records, uint64 *entries, uint64 *misses, int blocks, int n,
    int h, int w, int k, int sweeps
) {
    prepare<4>(
        colors, inverse, palette, own, box, records, entries, misses, blocks, n, h, w, k, sweeps
    );
}

DEVICE int low_of(const uint32 *box, int j) { return 2047 - (int)box[4 + j]; }
DEVICE int high_of(const uint32 *box, int j) { return (int)box[j]; }

template <int D> DEVICE uint32 key_of(const int *target, uint64 entry, int c) {
    int distance = 0;
    for (int j = 0; j < D; j++) {
        int difference = target[j] - coordinate_of(entry, j);
        distance += difference * difference;
    }
    return (uint32)distance << 8 | (uint32)c;
}

// Whether an entry may be nearest somewhere in a box, given one that is: how much farther off that
// one is grows evenly along each axis, so that it is most at a corner.
template <int D> DEVICE bool may_be_nearest(
    const int *corner, int width, uint64 entry, int c, uint64 rival, int b
) {
    int most = 0;
    for (int j = 0; j < D; j++) {
        int ours = coordinate_of(entry, j), theirs = coordinate_of(rival, j);
        most += (theirs - ours) * (theirs + ours - 2 * corner[j]);
        most += width * greater(0, 2 * (ours - theirs));
    }
    return c == b || most > 0 || (most == 0 && c < b);
}

// A block lists the candidates of 4 cells a side: first of them together, then of each.
template <int D> DEVICE void list_candidates(
    const uint64 *palette, const uint32 *box, uint64 *cells, uint8 *lists, uint32 *taken, int room,
    int k
) {
    SHARED uint64 entries[MOST_ENTRIES];
    SHARED uint8 listed[MOST_ENTRIES];
    SHARED uint32 nearest, listed_count;
    const int shift = cell_shift<D>(), bits = axis_bits<D>();
    int corner[D], middle[D];
    bool is_inside = true;
    for (int j = 0; j < D; j++) {
        int place = block_index() >> ((D - 1 - j) * (bits - 2)) & ((1 << (bits - 2)) - 1);
        corner[j] = place << (shift + 2);
        middle[j] = corner[j] + (2 << shift);
        is_inside &= corner[j] <= high_of(box, j) && corner[j] + (4 << shift) > low_of(box, j);
    }
    if (block_index() == 0) FOR_THREADS(c, k) lists[c] = (uint8)c;
    if (!is_inside) return;  // the whole block
    FOR_THREADS(i, 1) nearest = ~0u;
    sync_threads();
    uint32 least = ~0u;
    FOR_THREADS(c, k) {
        entries[c] = palette[c];
        least = lesser(least, key_of<D>(middle, entries[c], c));
    }
    least = warp_min(least);
    if (lane_index() == 0) lower_to(&nearest, least);
    sync_threads();
    if (warp_index() == 0) {
        int b = (int)(nearest & 255), count = 0;
        for (int start = 0; start < k; start += WARP) {
            int c = start + lane_index();
            bool is_kept = c < k && may_be_nearest<D>(
                corner, (4 << shift) - 1, entries[lesser(c, k - 1)], c, entries[b], b
            );
            uint32 kept = warp_ballot(is_kept);
            if (is_kept) listed[count + count_bits(kept & ((1u << lane_index()) - 1))] = (uint8)c;
            count += count_bits(kept);
        }
        if (lane_index() == 0) listed_count = (uint32)count;
    }
    sync_threads();
    const int count = (int)listed_count, width = (1 << shift) - 1;
    FOR_THREADS(i, 1 << 2 * D) {
        int at[D], center[D], cell = 0;
        for (int j = 0; j < D; j++) {
            at[j] = corner[j] + ((i >> (2 * (D - 1 - j)) & 3) << shift);
            center[j] = at[j] + (1 << shift >> 1);
            cell = cell << bits | at[j] >> shift;
        }
        uint32 closest = ~0u;
        for (int q = 0; q < count; q++)
            closest = lesser(closest, key_of<D>(center, entries[listed[q]], listed[q]));
        int b = (int)(closest & 255), found = 0;
        uint64 last = 0, list = 0;
        for (int q = 0; q < count; q++) {
            int c = listed[q];
            if (!may_be_nearest<D>(at, width, entries[c], c, entries[b], b)) continue;
            last = (uint64)c;
            if (found < SLOTS) list |= last << (8 * found);
            found++;
        }
        for (int q = found; q < SLOTS; q++) list |= last << (8 * q);
        if (found > SLOTS) {
            uint32 begin = MOST_ENTRIES + take(taken, (uint32)found);
            if (begin + (uint32)found > (uint32)room) begin = 0, found = k;
            list = LISTED | (uint64)found << 16 | (uint64)begin << 32;
            for (int q = 0; begin && q < count; q++) {
                const int c = listed[q];
                if (may_be_nearest<D>(at, width, entries[c], c, entries[b], b))
                    lists[begin++] = (uint8)c;
            }
        }
        cells[cell] = list;
    }
}

KERNEL(64) list_candidates_3(
    const uint64 *palette, const uint32 *box, uint64 *cells, uint8 *lists, uint32 *taken, int room,
    int k
) {
    list_candidates<3>(palette, box, cells, lists, taken, room, k);
}

KERNEL(64) list_candidates_4(
    const uint64 *palette, const uint32 *box, uint64 *cells, uint8 *lists, uint32 *taken, int room,
    int k
) {
    list_candidates<4>(palette, box, cells, lists, taken, room, k);
}

template <int D> DEVICE int cell_of(const int *target) {
    int cell = 0;
    for (int j = 0; j < D; j++)
        cell |= target[j] >> cell_shift<D>() << (axis_bits<D>() * (D - 1 - j));
    return cell;
}

// The first of the entries nearest to a target, in each of the lanes that share it: all lanes of a
// warp must come.
template <int D, int SHARING> DEVICE int nearest_to(
    const int *target, const uint64 *cells, const uint8 *lists, const uint64 *entries
) {
    const int part = lane_index() % SHARING;
    const uint64 cell = cells[cell_of<D>(target)];
    const uint32 first = (uint32)cell & 255, second = (uint32)cell >> 8 & 255;
    uint32 least = ~0u;  // of a cell with a list: nothing, of any of MOST_ENTRIES
#pragma unroll
    for (int q = 0; q < SLOTS; q += SHARING) {
        const int c = (int)((uint32)(cell >> (8 * q)) >> (8 * part) & 255);
        least = lesser(least, key_of<D>(target, entries[c], c));
    }
    const bool is_listed = first > second;  // seldom; all lanes go one way, for speed
    if (SHARING > 1 ? warp_ballot(is_listed) != 0 : is_listed) {
        const uint8 *list = lists + (is_listed ? cell >> 32 : 0);
        const int count = is_listed ? (int)((uint32)cell >> 16) : 0;
        if (is_listed) least = ~0u;  // what was found above means nothing
        for (int start = 0; start < count; start += AT_ONCE * SHARING) {
#pragma unroll
            for (int q = 0; q < AT_ONCE; q++) {
                const int c = list[lesser(start + q * SHARING + part, count - 1)];
                least = lesser(least, key_of<D>(target, entries[c], c));
            }
        }
    }
    uint32 of_all = least;
#pragma unroll
    for (int step = 1; step < SHARING; step++)  // none waits for another
        of_all = lesser(of_all, warp_get(least, lane_index() ^ step));
    return (int)(of_all & 255);
}

// The column where a row begins a chunk of SPAN pixels: it is SPAN + 1 behind the row above, so
// that all it gets from there was known a barrier ago.
DEVICE int column_at(int chunk, int row) { return chunk * SPAN - row * (SPAN + 1); }

// The i-th record of a chunk, of all rows of a band; none beyond the edges.
DEVICE uint64 record_at(const uint64 *band, int rows, int w, int chunk, int i) {
    int row = i / SPAN, x = column_at(chunk, row) + i % SPAN;
    return row < rows && x >= 0 && x < w ? band[(int64)row * w + x] : 0;
}

// A block diffuses the errors of a band of rows; LANES threads share a row, and all rows go on side
// by side. A thread of the CPU has all rows: what it knows of each is in arrays, of one on a GPU.
template <int D> DEVICE void diffuse(
    const uint64 *records, const uint64 *palette, const uint64 *cells, const uint8 *lists,
    const uint32 *box, uint8 *indices, uint64 *misses, uint32 *touched, int share, int h, int w,
    int k, int sweeps
) {
    const int ROWS_EACH = BAND * LANES / BAND_THREADS, LOADS_EACH = BAND * SPAN / BAND_THREADS;
    SHARED uint64 entries[MOST_ENTRIES];
    SHARED uint64 passing[2][BAND + 1][SPAN];  // errors of a row's last pixels, one row down
    SHARED uint64 coming[3][BAND * SPAN];  // records of this chunk of pixels and the next two
    const int64 top = (int64)block_index() * BAND;
    const int rows = lesser(BAND, h - (int)top);
    const uint64 *band = records + top * w;
    const int part = lane_index() % LANES, third = third_of(w);
    int low[D], high[D];
    for (int j = 0; j < D; j++) low[j] = low_of(box, j), high[j] = high_of(box, j);
    FOR_THREADS(c, MOST_ENTRIES) entries[c] = palette[lesser(c, k - 1)];
    FOR_THREADS(i, 2 * (BAND + 1) * SPAN) ((uint64 *)passing)[i] = 0;
    for (int chunk = 0; chunk < 2; chunk++)
        FOR_THREADS(i, BAND * SPAN) coming[chunk][i] = record_at(band, rows, w, chunk, i);
    int left[ROWS_EACH][D] = {}, above[ROWS_EACH][D] = {}, corner[ROWS_EACH][D] = {};
    uint32 seen = 0;
    sync_threads();
    const int chunks = (w + (rows - 1) * (SPAN + 1) + SPAN - 1) / SPAN;
    for (int chunk = 0; chunk < chunks; chunk++) {
        uint64 ahead[LOADS_EACH];
        for (int i = 0; i < LOADS_EACH; i++)
            ahead[i] = record_at(band, rows, w, chunk + 2, thread_index() + i * BAND_THREADS);
        for (int r = 0; r < ROWS_EACH; r++) {
            const int row = thread_index() / LANES + r * (BAND_THREADS / LANES);
            const int first = column_at(chunk, row);
            uint64 from[SPAN], known[SPAN];  // read before anything is written: all in flight
            uint8 mine[SPAN / LANES];
#pragma unroll
            for (int i = 0; i < SPAN; i++) {
                from[i] = passing[(chunk + 1) % 2][row][i];
                known[i] = coming[chunk % 3][row * SPAN + i];
            }
#pragma unroll
            for (int i = 0; i < SPAN; i++) {
                const bool is_inside = row < rows && first + i >= 0 && first + i < w;
                const int own = own_of(known[i]);
                int target[D];
                for (int j = 0; j < D; j++) {
                    int right = one_of(from[i], j);
                    int rest = 16 * level_of(known[i], j) + 8 + 3 * right + 5 * above[r][j];
                    int sum = rest + corner[r][j] + 7 * left[r][j];
                    target[j] = lesser(greater(sum >> 4, low[j]), high[j]);
                    corner[r][j] = above[r][j];
                    above[r][j] = right;
                }
                int chosen = nearest_to<D, LANES>(target, cells, lists, entries);
                if (own >= 0) chosen = own;
                const uint64 entry = entries[chosen];
                int error[4] = {0, 0, 0, 0};
                for (int j = 0; j < D; j++) {
                    int missed = target[j] - coordinate_of(entry, j);
                    if (is_inside && own < 0) error[j] = (missed * share + HALF) >> SHARE_BITS;
                    left[r][j] = error[j];
                }
                if (part == i % LANES) {
                    passing[chunk % 2][row + 1][i] = four(error[0], error[1], error[2], error[3]);
                    mine[i / LANES] = (uint8)chosen;
                }
            }
#pragma unroll
            for (int i = part; i < SPAN; i += LANES) {
                const int x = first + i;
                if (row >= rows || x < 0 || x >= w) continue;
                const int64 y = top + row;
                indices[y * w + x] = mine[i / LANES];
                if (sweeps)
                    misses[(y + 2) * 3 * third + column_of(x, third)] =
                        miss_of<D>(entries[mine[i / LANES]], coming[chunk % 3][row * SPAN + i]);
            }
        }
        for (int i = 0; i < LOADS_EACH; i++) {
            int level[D];
            for (int j = 0; j < D; j++)
                level[j] = lesser(greater(level_of(ahead[i], j), low[j]), high[j]);
            seen += (uint32)cells[cell_of<D>(level)];  // near where it will be needed: in the L1
            coming[(chunk + 2) % 3][thread_index() + i * BAND_THREADS] = ahead[i];
        }
        sync_threads();
    }
    touched[block_index() * BAND_THREADS + thread_index()] = seen;  // or it would be left out
}

KERNEL(BAND_THREADS) diffuse_3(
    const uint64 *records, const uint64 *palette, const uint64 *cells, const uint8 *lists,
    const uint32 *box, uint8 *indices, uint64 *misses, uint32 *touched, int share, int h, int w,
    int k, int sweeps
) {
    diffuse<3>(
        records, palette, cells, lists, box, indices, misses, touched, share, h, w, k, sweeps
    );
}

KERNEL(BAND_THREADS) diffuse_4(
    const uint64 *records, const uint64 *palette, const uint64 *cells, const uint8 *lists,
    const uint32 *box, uint8 *indices, uint64 *misses, uint32 *touched, int share, int h, int w,
    int k, int sweeps
) {
    diffuse<4>(
        records, palette, cells, lists, box, indices, misses, touched, share, h, w, k, sweeps
    );
}

// A block has every third row, from `phase` on; every third pixel of it chooses at a time. Rows do
// not see one another, and what those between miss does not change meanwhile.
template <int D> DEVICE void reconsider(
    const uint64 *records, const uint64 *palette, const uint64 *cells, const uint8 *lists,
    const uint32 *box, uint8 *indices, uint64 *misses, int share, int phase, int w, int k
) {
    SHARED uint64 entries[MOST_ENTRIES];
    const int third = third_of(w);
    const int64 y = phase + 3 * (int64)block_index();
    const int blur[5] = {1, 4, 6, 4, 1};  // as BLUR
    FOR_THREADS(c, MOST_ENTRIES) entries[c] = palette[lesser(c, k - 1)];
    for (int first = 0; first < 3; first++) {
        sync_threads();
        FOR_THREADS(i, (w - first + 2) / 3) {
            const int x = 3 * i + first;
            const uint64 record = records[y * w + x];
            if (own_of(record) >= 0) continue;
            int all[D] = {}, target[D];
            uint64 *line = misses + (y + 2) * 3 * third;  // of this row
#pragma unroll
            for (int u = 0; u < 5; u++) {
                const int column = (first + u) % 3 * third + i + (first + u) / 3;
#pragma unroll
                for (int v = 0; v < 5; v++) {
                    if (u == 2 && v == 2) continue;
                    const uint64 missed = line[(int64)(v - 2) * 3 * third + column];
                    for (int j = 0; j < D; j++) all[j] += blur[u] * blur[v] * one_of(missed, j);
                }
            }
            for (int j = 0; j < D; j++) {
                int wanted = level_of(record, j) - ((all[j] * share + HALF) >> SHARE_BITS);
                target[j] = lesser(greater(wanted, low_of(box, j)), high_of(box, j));
            }
            const int chosen = nearest_to<D, 1>(target, cells, lists, entries);
            indices[y * w + x] = (uint8)chosen;
            line[column_of(x, third)] = miss_of<D>(entries[chosen], record);
        }
    }
}

KERNEL(512) reconsider_3(
    const uint64 *records, const uint64 *palette, const uint64 *cells, const uint8 *lists,
    const uint32 *box, uint8 *indices, uint64 *misses, int share, int phase, int w, int k
) {
    reconsider<3>(records, palette, cells, lists, box, indices, misses, share, phase, w, k);
}

KERNEL(512) reconsider_4(
    const uint64 *records, const uint64 *palette, const uint64 *cells, const uint8 *lists,
    const uint32 *box, uint8 *indices, uint64 *misses, int share, int phase, int w, int k
) {
    reconsider<4>(records, palette, cells, lists, box, indices, misses, share, phase, w, k);
}
