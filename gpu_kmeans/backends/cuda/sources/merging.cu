// `gpu_kmeans.histogram.coarsen` for many pictures at once: see `merging.py` for what it is.
//
// Five launches. The colours of all pictures are cut into chunks, a block each: `count_cells`
// counts at every level of the octree, `find_leaves` says where the cells begin at the finest level
// that has few enough. `sum_leaves` adds those up, a warp each. `grow` builds the tree above them,
// a block to a picture, and says which leaves a point begins with; `sum_points` adds points up.
//
// A colour's height is the highest bit that differs from the colour before it: it begins a cell at
// the levels up to that one. No code is needed beside it, as cells follow each other.

#define LEVELS 8  // bits of a channel
#define CHUNK 2048  // colours to a block
#define LEAVES_OF_BLOCK 32
#define POINTS_OF_BLOCK 8
#define FIRST_HEIGHT LEVELS  // of the first colour: it begins a cell at all levels
#define DIGIT 11  // bits of a key that are looked at at once
#define MOST_LEAVES 40000  // a multiple of 32, FINEST_CELLS of `gpu_kmeans.histogram`

// What the host tells of each picture.
enum Column { COLORS, FEATURES, WEIGHTS, SIZE, FIRST_CHUNK, FIRST_LEAF, FIRST_LEAF_BLOCK };

// Rows of scratch memory, each as long as all leaves there is room for. There are nodes in three
// places: leaves, which stay, and two levels in turn.
enum WideRow { KEYS, SQUARES, MASSES = SQUARES + 3, SUMS = MASSES + 3 };  // channels x 3 sums
enum NarrowRow { STARTS, FIRSTS, CHILDREN = FIRSTS + 3, BEGINS, ENDS, SAVED };
enum ByteRow { HEIGHTS };  // 3

// The height of a colour; -1 where it is the one before it.
DEVICE int height_of(const uint8 *colors, int64 i, int channels) {
    if (i == 0) return FIRST_HEIGHT;
    uint32 changed = 0;
    const uint8 *own = colors + i * channels;
    for (int j = 0; j < channels; j++) changed |= own[j] ^ own[j - channels];
    int height = -1;
    for (int bit = 0; bit < LEVELS; bit++) if (changed >> bit & 1) height = bit;
    return height;
}

// The finest level at which there are few enough cells.
DEVICE int finest(const uint32 *cells /* (LEVELS,) */) {
    int level = 0;
    while (level < LEVELS - 1 && cells[level] > MOST_LEAVES) level++;
    return level;
}

KERNEL(256) count_cells(
    const int64 *columns, int pictures, int channels, int chunks,
    uint32 *cells_of,  // (LEVELS, chunks), written: how many cells begin in each
    uint32 *cells  // (pictures, LEVELS): zeros; written: how many there are
) {
    SHARED uint32 counts[LEVELS];
    Table all = {columns, pictures};
    int p = owner_of(all, FIRST_CHUNK, block_index());
    const uint8 *colors = (const uint8 *)told(all, COLORS, p);
    int64 begin = (block_index() - told(all, FIRST_CHUNK, p)) * CHUNK, n = told(all, SIZE, p);
    FOR_THREADS(level, LEVELS) counts[level] = 0;
    sync_threads();
    uint32 own[LEVELS] = {};
    for (int at = warp_index() * WARP; at < CHUNK; at += warp_count() * WARP) {
        int64 i = begin + at + lane_index();
        int height = i < n ? height_of(colors, i, channels) : -1;
        for (int level = 0; level < LEVELS; level++) {
            own[level] += count_bits(warp_ballot(height >= level));
        }
    }
    for (int level = 0; level < LEVELS; level++) {
        if (lane_index() == 0) add_to(&counts[level], own[level]);
    }
    sync_threads();
    FOR_THREADS(level, LEVELS) {
        cells_of[(int64)level * chunks + block_index()] = counts[level];
        add_to(&cells[p * LEVELS + level], counts[level]);
    }
}

KERNEL(256) find_leaves(
    const int64 *columns, int pictures, int channels, int chunks,
    const uint32 *cells_of,
    const uint32 *cells,
    int room,  // leaves of all pictures, at most
    uint32 *narrow,  // rows of `room`: STARTS, written
    uint8 *bytes  // likewise: HEIGHTS of the leaves, written
) {
    Table all = {columns, pictures};
    int p = owner_of(all, FIRST_CHUNK, block_index()), level = finest(cells + p * LEVELS);
    const uint8 *colors = (const uint8 *)told(all, COLORS, p);
    int first_chunk = (int)told(all, FIRST_CHUNK, p);
    int64 begin = (int64)(block_index() - first_chunk) * CHUNK, left = told(all, SIZE, p) - begin;
    const uint32 *before = cells_of + (int64)level * chunks + first_chunk;
    uint32 own = 0, base;
    FOR_THREADS(chunk, block_index() - first_chunk) own += before[chunk];
    sum_before(own, &base);
    int64 at = told(all, FIRST_LEAF, p) + base;
    give_ranks(
        0, left < CHUNK ? (int)left : CHUNK,
        [&](int i) { return height_of(colors, begin + i, channels) >= level; },
        [&](uint32 rank, int i) {
            int64 leaf = at + rank;
            narrow[(int64)STARTS * room + leaf] = (uint32)(begin + i);
            bytes[(int64)HEIGHTS * room + leaf] = (uint8)height_of(colors, begin + i, channels);
        }
    );
}

// The sum of squares of numpy's rows: one after the other.
DEVICE double squared(const int64 *sums, int channels) {
    double total = (double)sums[0] * (double)sums[0];
    for (int j = 1; j < 4; j++) if (j < channels) total += (double)sums[j] * (double)sums[j];
    return total;
}

KERNEL(256) sum_leaves(
    const int64 *columns, int pictures, int channels,
    const uint32 *cells,
    int room,
    const uint32 *narrow,
    int64 *wide  // rows of `room`: SQUARES, MASSES and SUMS of the leaves, written
) {
    Table all = {columns, pictures};
    int p = owner_of(all, FIRST_LEAF_BLOCK, block_index());
    const float *features = (const float *)told(all, FEATURES, p);
    const double *weights = (const double *)told(all, WEIGHTS, p);
    int count = (int)cells[p * LEVELS + finest(cells + p * LEVELS)];
    int first = (int)(block_index() - told(all, FIRST_LEAF_BLOCK, p)) * LEAVES_OF_BLOCK;
    int last = first + LEAVES_OF_BLOCK < count ? first + LEAVES_OF_BLOCK : count;
    int64 base = told(all, FIRST_LEAF, p);
    const uint32 *starts = narrow + (int64)STARTS * room + base;
    for (int leaf = first + warp_index(); leaf < last; leaf += warp_count()) {
        int64 end = leaf + 1 < count ? starts[leaf + 1] : told(all, SIZE, p);
        int64 mass = 0, sums[4] = {};
        for (int64 i = starts[leaf] + lane_index(); i < end; i += WARP) {
            int64 weight = (int64)weights[i];
            mass += weight;
            for (int j = 0; j < 4; j++) {
                if (j < channels) sums[j] += (int64)features[i * channels + j] * weight;
            }
        }
        mass = (int64)warp_add((uint64)mass);
        for (int j = 0; j < 4; j++) if (j < channels) sums[j] = (int64)warp_add((uint64)sums[j]);
        if (lane_index() == 0) {
            wide[(int64)MASSES * room + base + leaf] = mass;
            for (int j = 0; j < 4; j++) {
                if (j < channels) wide[(int64)(SUMS + 3 * j) * room + base + leaf] = sums[j];
            }
            double square = squared(sums, channels) / (double)mass;
            wide[(int64)SQUARES * room + base + leaf] = (int64)bits_of(square);
        }
    }
}

// Add numbers in the order of numpy's `add.reduceat`: the first, and to it the sum of the others,
// one after the other up to seven, from eight on eight side by side.
DEVICE double added_like_numpy(const int64 *bits, int count) {
#define AT(i) double_of((uint64)bits[i])
    if (count == 1) return AT(0);
    double rest = AT(1);
    int i = 2;
    if (count > 8) {
        rest = ((AT(1) + AT(2)) + (AT(3) + AT(4))) + ((AT(5) + AT(6)) + (AT(7) + AT(8)));
        i = 9;
    }
    for (; i < count; i++) rest += AT(i);
    return AT(0) + rest;
#undef AT
}

// Numbers that are in the order of the doubles.
DEVICE uint64 key_of(double value) {
    uint64 bits = bits_of(value);
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}

// The smallest key at which those up to it save enough. All threads call it.
DEVICE uint64 find_limit(const uint64 *keys, const uint32 *saved, int count, uint32 surplus) {
    SHARED uint32 bins[1 << DIGIT];
    SHARED uint32 found[2];
    uint64 prefix = 0;
    uint32 wanted = surplus;
    for (int top = 64; top > 0;) {
        int shift = top > DIGIT ? top - DIGIT : 0, size = 1 << (top - shift);
        FOR_THREADS(bin, size) bins[bin] = 0;
        sync_threads();
        FOR_THREADS(i, count) {
            uint64 key = keys[i];
            if (top == 64 || key >> top == prefix) {
                add_to(&bins[(uint32)(key >> shift) & (uint32)(size - 1)], saved[i]);
            }
        }
        sync_threads();
        int share = (size + thread_count() - 1) / thread_count();
        int first = thread_index() * share;
        int last = first + share < size ? first + share : size;
        uint32 own = 0, all;
        for (int bin = first; bin < last; bin++) own += bins[bin];
        uint32 before = sum_before(own, &all);
        if (before < wanted && before + own >= wanted) {
            int bin = first;
            for (; before + bins[bin] < wanted; bin++) before += bins[bin];
            found[0] = (uint32)bin;
            found[1] = wanted - before;
        }
        sync_threads();
        prefix = prefix << (top - shift) | found[0];
        wanted = found[1];
        top = shift;
    }
    return prefix;
}

// Mark the bits from begin to end - 1.
DEVICE void mark(uint32 *words, uint32 begin, uint32 end) {
    while (begin < end) {
        uint32 upto = (begin / 32 + 1) * 32 < end ? (begin / 32 + 1) * 32 : end;
        set_bits(&words[begin / 32], ~0u >> (32 - (upto - begin)) << begin % 32);
        begin = upto;
    }
}

KERNEL(1024) grow(
    const int64 *columns, int pictures, int channels,
    const uint32 *cells,
    int room,
    int target,
    uint32 *narrow,  // FIRSTS, CHILDREN, BEGINS, ENDS and SAVED are written
    uint8 *bytes,
    int64 *wide,  // KEYS, and SQUARES, MASSES and SUMS of levels above the leaves, are written
    uint32 *begins,  // (pictures, target + 1), written: the leaf each point begins with; the end
    int64 *points  // (pictures,), written: how many points come out
) {
    SHARED uint32 covered[MOST_LEAVES / 32];  // leaves that belong to a point before them, in bits
    SHARED uint32 node_count;
    Table all = {columns, pictures};
    int p = block_index(), level = finest(cells + p * LEVELS);
    int leaves = (int)cells[p * LEVELS + level], words = (leaves + 31) / 32;
    int64 base = told(all, FIRST_LEAF, p);
    auto wide_row = [&](int row) { return wide + (int64)row * room + base; };
    auto narrow_row = [&](int row) { return narrow + (int64)row * room + base; };
    uint64 *keys = (uint64 *)wide_row(KEYS);
    uint32 *children = narrow_row(CHILDREN);
    uint32 *node_begins = narrow_row(BEGINS), *node_ends = narrow_row(ENDS);
    uint32 *saved = narrow_row(SAVED);
    FOR_THREADS(word, words) covered[word] = 0;
    if (thread_index() == 0) node_count = 0;
    sync_threads();
    int count = leaves > target ? leaves : 1, from = 0;
    while (count > 1) {  // only nodes of several children save any: others go up as they are
        int to = from == 1 ? 2 : 1;
        level++;
        const uint8 *heights = bytes + (int64)(HEIGHTS + from) * room + base;
        uint8 *new_heights = bytes + (int64)(HEIGHTS + to) * room + base;
        const uint32 *firsts = narrow_row(FIRSTS + from);
        uint32 *new_firsts = narrow_row(FIRSTS + to);
        int parents = (int)give_ranks(
            0, count, [&](int i) { return heights[i] >= level; },
            [&](uint32 rank, int i) { children[rank] = (uint32)i; }
        );
        sync_threads();
        for (int at = warp_index() * WARP; at < parents; at += warp_count() * WARP) {
            int parent = at + lane_index();
            bool is_node = false;
            uint32 begin = 0, end = 0, own = 0;
            uint64 key = 0;
            if (parent < parents) {
                int first = (int)children[parent];
                int last = parent + 1 < parents ? (int)children[parent + 1] : count;
                int64 mass = 0, sums[4] = {};
                for (int child = first; child < last; child++) {
                    mass += wide_row(MASSES + from)[child];
                    for (int j = 0; j < 4; j++) {
                        if (j < channels) sums[j] += wide_row(SUMS + 3 * j + from)[child];
                    }
                }
                double square = added_like_numpy(wide_row(SQUARES + from) + first, last - first);
                begin = from ? firsts[first] : (uint32)first;
                end = last == count ? (uint32)leaves : from ? firsts[last] : (uint32)last;
                new_heights[parent] = heights[first];
                new_firsts[parent] = begin;
                wide_row(MASSES + to)[parent] = mass;
                wide_row(SQUARES + to)[parent] = (int64)bits_of(square);
                for (int j = 0; j < 4; j++) {
                    if (j < channels) wide_row(SUMS + 3 * j + to)[parent] = sums[j];
                }
                is_node = last - first > 1;
                own = (uint32)(last - first - 1);
                key = key_of(square - squared(sums, channels) / (double)mass);
            }
            uint32 which = warp_ballot(is_node), place = 0;
            if (lane_index() == 0) place = take(&node_count, count_bits(which));
            place = warp_get(place, 0) + count_bits(which & ((1u << lane_index()) - 1));
            if (is_node) {
                keys[place] = key;
                node_begins[place] = begin;
                node_ends[place] = end;
                saved[place] = own;
            }
        }
        sync_threads();
        count = parents;
        from = to;
    }
    if (leaves > target) {
        int nodes = (int)node_count;
        uint64 limit = find_limit(keys, saved, nodes, (uint32)(leaves - target));
        FOR_THREADS(i, nodes) {
            if (keys[i] <= limit) mark(covered, node_begins[i] + 1, node_ends[i]);
        }
        sync_threads();
    }
    uint32 *own_begins = begins + (int64)p * (target + 1);
    int found = (int)give_ranks(
        0, leaves, [&](int leaf) { return !(covered[leaf / 32] >> leaf % 32 & 1); },
        [&](uint32 rank, int leaf) { own_begins[rank] = (uint32)leaf; }
    );
    if (thread_index() == 0) {
        own_begins[found] = (uint32)leaves;
        points[p] = found;
    }
}

KERNEL(256) sum_points(
    const int64 *columns, int pictures, int channels,
    int room,
    int target,
    const uint32 *begins,
    const int64 *points,
    const int64 *wide,
    float *means,  // (pictures, target, channels), written, on the grid
    double *masses  // (pictures, target), written
) {
    Table all = {columns, pictures};
    int blocks = (target + POINTS_OF_BLOCK - 1) / POINTS_OF_BLOCK;
    int p = block_index() / blocks, first = block_index() % blocks * POINTS_OF_BLOCK;
    int last = first + POINTS_OF_BLOCK < points[p] ? first + POINTS_OF_BLOCK : (int)points[p];
    int64 base = told(all, FIRST_LEAF, p);
    const uint32 *own_begins = begins + (int64)p * (target + 1);
    for (int point = first + warp_index(); point < last; point += warp_count()) {
        int64 mass = 0, sums[4] = {};
        int64 leaf = base + own_begins[point] + lane_index(), end = base + own_begins[point + 1];
        for (; leaf < end; leaf += WARP) {
            mass += wide[(int64)MASSES * room + leaf];
            for (int j = 0; j < 4; j++) {
                if (j < channels) sums[j] += wide[(int64)(SUMS + 3 * j) * room + leaf];
            }
        }
        mass = (int64)warp_add((uint64)mass);
        for (int j = 0; j < 4; j++) if (j < channels) sums[j] = (int64)warp_add((uint64)sums[j]);
        if (lane_index() == 0) {
            int64 at = (int64)p * target + point;
            masses[at] = (double)mass;
            for (int j = 0; j < 4; j++) {
                double mean = (double)sums[j] / (double)mass;
                if (j < channels) means[at * channels + j] = (float)floor(mean + 0.5);
            }
        }
    }
}
