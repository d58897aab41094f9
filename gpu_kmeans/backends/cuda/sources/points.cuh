// Points of pictures, their nearest centroids, and exact sums of them: what passes and searches share.
//
// Coordinates and centroids are whole numbers in [0, 2040], centroids up to a sixth of that outside.
// With MIDDLE taken off, |c|^2 - 2 x c is exact in float32, fused or not, and orders centroids as
// distances do. Weights of a problem add up to less than 2^31.

#define TILE 128
#define MIDDLE 1020.0f
#define NOBODY 0xffffffffu

// Centroids as a pass wants them: -2 c less MIDDLE, and |c|^2 of that.
template <int D> struct alignas(16) Row;
template <> struct alignas(16) Row<3> {
    float towards[3], norm;
};
template <> struct alignas(16) Row<4> {
    float towards[4], norm, unused[3];
};

// Words of 32 bits that a point is added to at its centroid, none of which overflows within a block:
// weight; low 16 bits and the rest of each weighted coordinate; with DETAIL low, middle 16 bits and
// the rest of each weighted square, and of the utility.
template <int D, bool DETAIL> struct Words {
    enum { COUNT = 1 + 2 * D + (DETAIL ? 3 * D + 3 : 0) };
};

template <int D> DEVICE Row<D> row_of(const float *centroid, int stride) {
    Row<D> row;
    float norm = 0.0f;
    for (int j = 0; j < D; j++) {
        float c = centroid[j * stride] - MIDDLE;
        row.towards[j] = -2.0f * c;
        norm = fused(c, c, norm);
    }
    row.norm = norm;
    return row;
}

template <int D> struct Box {
    float middle[D], reach[D];

    DEVICE_MEMBER void read(const float *boxes, int tiles, int t) {
        for (int j = 0; j < D; j++) {
            float low = boxes[j * tiles + t], high = boxes[(D + j) * tiles + t];
            middle[j] = (low + high) * 0.5f - MIDDLE;
            reach[j] = (high - low) * 0.5f;
        }
    }

    // Squared distance of a centroid from the nearest point of the box, and from the farthest.
    DEVICE_MEMBER float near(const Row<D> &row) const {
        float sum = 0.0f;
        for (int j = 0; j < D; j++) {
            float inside = fmaxf(fabsf(fused(row.towards[j], 0.5f, middle[j])) - reach[j], 0.0f);
            sum = fused(inside, inside, sum);
        }
        return sum;
    }
    DEVICE_MEMBER float far(const Row<D> &row) const {
        float sum = 0.0f;
        for (int j = 0; j < D; j++) {
            float outside = fabsf(fused(row.towards[j], 0.5f, middle[j])) + reach[j];
            sum = fused(outside, outside, sum);
        }
        return sum;
    }
};

// A lane's points of a tile, or of one of several parts of it, and what was found for them.
template <int D, int PARTS> struct Points {
    enum { OWN = TILE / WARP / PARTS };
    float x[D][OWN];  // less MIDDLE
    float smallest[OWN], second[OWN];
    int label[OWN];

    // Where the i-th point of this lane stands, of a part of all tiles.
    DEVICE_MEMBER static int64 place(int part, int i) {
        return (int64)part * (TILE / PARTS) + i * WARP + lane_index();
    }

    DEVICE_MEMBER void read(const float *points, int size, int part) {
        for (int i = 0; i < OWN; i++)
            for (int j = 0; j < D; j++)
                x[j][i] = points[(int64)j * size + place(part, i)] - MIDDLE;
    }

    // The distance at which a centroid that comes no nearer to the box cannot win, or come second.
    template <bool SECOND> DEVICE_MEMBER static float bound(const Box<D> &box, const Row<D> *rows, int count) {
        float least = INFINITE, next = INFINITE;
        for (int c = lane_index(); c < count; c += WARP) {
            float far = box.far(rows[c]);
            if (SECOND) next = fminf(next, fmaxf(far, least));
            least = fminf(far, least);
        }
        uint32 winner = warp_min(bits_of(least));
        if (!SECOND) return float_of(winner);
        uint32 winners = warp_ballot(bits_of(least) == winner);
        if (count_bits(winners) > 1) return float_of(winner);
        return float_of(warp_min(bits_of(bits_of(least) == winner ? next : least)));
    }

    template <bool SECOND> DEVICE_MEMBER void find(const Box<D> &box, const Row<D> *rows, int count) {
        float limit = bound<SECOND>(box, rows, count);
        for (int i = 0; i < OWN; i++) {
            smallest[i] = second[i] = INFINITE;
            label[i] = 0;
        }
        for (int base = 0; base < count; base += WARP) {
            int mine = base + lane_index();
            uint32 kept = warp_ballot(mine < count && box.near(rows[mine < count ? mine : 0]) <= limit);
            while (kept) {
                int c = base + first_bit(kept);
                kept &= kept - 1;
                const Row<D> row = rows[c];
                for (int i = 0; i < OWN; i++) {
                    float score = row.norm;
                    for (int j = 0; j < D; j++) score = fused(x[j][i], row.towards[j], score);
                    if (SECOND) second[i] = fminf(second[i], fmaxf(score, smallest[i]));
                    if (score < smallest[i]) label[i] = c;
                    smallest[i] = fminf(smallest[i], score);
                }
            }
        }
    }

    // Add the points to the words of their centroids one by one, each lane to one of several copies,
    // so that few lanes of a warp meet; return their weighted squared distances. Faster than `add`
    // where a tile's points have many centroids between them.
    template <bool DETAIL> DEVICE_MEMBER uint64 add_each(const int64 *masses, int part, uint32 *table) const {
        uint64 cost = 0;
        for (int i = 0; i < OWN; i++) {
            uint32 weight = (uint32)masses[place(part, i)];
            if (!weight) continue;
            uint32 *to = table + label[i] * Words<D, DETAIL>::COUNT;
            float square = 0.0f;
            add_to(to++, weight);
            for (int j = 0; j < D; j++) {
                square = fused(x[j][i], x[j][i], square);
                uint64 share = (uint64)weight * (uint32)(x[j][i] + MIDDLE);
                add_to(to++, (uint32)share & 0xffff);
                if (share >> 16) add_to(to, (uint32)(share >> 16));
                to++;
            }
            cost += (uint64)weight * (uint32)(smallest[i] + square);
            if (DETAIL) {
                for (int j = 0; j < D; j++, to += 3) {
                    uint32 level = (uint32)(x[j][i] + MIDDLE);
                    add_wide_to(to, (uint64)weight * (level * level));
                }
                if (second[i] != INFINITE) add_wide_to(to, (uint64)weight * (uint32)(second[i] - smallest[i]));
            }
        }
        return cost;
    }

    DEVICE_MEMBER static void add_wide_to(uint32 *to, uint64 share) {
        add_to(to, (uint32)share & 0xffff);
        if (share >> 16) add_to(to + 1, (uint32)(share >> 16) & 0xffff);
        if (share >> 32) add_to(to + 2, (uint32)(share >> 32));
    }

    // Do the same where neighbours have few centroids between them. Those are taken in rising order:
    // the lanes add up what they have for each, the warp adds that up, one lane adds it to the words.
    template <bool DETAIL> DEVICE_MEMBER uint64 add(const int64 *masses, int part, uint32 *table) const {
        uint32 weight[OWN], level[D][OWN], gap[OWN];
        uint64 cost = 0;
        for (int i = 0; i < OWN; i++) {
            weight[i] = (uint32)masses[place(part, i)];
            float square = 0.0f;
            for (int j = 0; j < D; j++) {
                square = fused(x[j][i], x[j][i], square);
                level[j][i] = (uint32)(x[j][i] + MIDDLE);
            }
            cost += (uint64)weight[i] * (uint32)(smallest[i] + square);
            if (DETAIL) gap[i] = second[i] == INFINITE ? 0 : (uint32)(second[i] - smallest[i]);
        }
        uint32 c = next(-1);
        while (c != NOBODY) {
            uint32 mass = 0;
            uint64 sums[D] = {}, squares[D] = {}, utility = 0;
            for (int i = 0; i < OWN; i++) {
                uint32 own = label[i] == (int)c ? weight[i] : 0;
                mass += own;
                for (int j = 0; j < D; j++) {
                    sums[j] += (uint64)own * level[j][i];
                    if (DETAIL) squares[j] += (uint64)own * (level[j][i] * level[j][i]);
                }
                if (DETAIL) utility += (uint64)own * gap[i];
            }
            uint32 *to = table + c * Words<D, DETAIL>::COUNT;
            add_word(to++, mass);
            for (int j = 0; j < D; j++, to += 2) {
                add_word(to, (uint32)sums[j] & 0xffff);
                add_word(to + 1, (uint32)(sums[j] >> 16));
            }
            if (DETAIL) {
                for (int j = 0; j < D; j++, to += 3) add_wide(to, squares[j]);
                add_wide(to, utility);
            }
            c = next((int)c);
        }
        return cost;
    }

    // The least label of the warp's points above one.
    DEVICE_MEMBER uint32 next(int after) const {
        uint32 least = NOBODY;
        for (int i = 0; i < OWN; i++)
            if (label[i] > after && (uint32)label[i] < least) least = (uint32)label[i];
        return warp_min(least);
    }

    DEVICE_MEMBER static void add_word(uint32 *to, uint32 own) {
        uint32 sum = warp_add(own);
        if (lane_index() == 0 && sum) add_to(to, sum);
    }
    DEVICE_MEMBER static void add_wide(uint32 *to, uint64 own) {
        add_word(to, (uint32)own & 0xffff);
        add_word(to + 1, (uint32)(own >> 16) & 0xffff);
        add_word(to + 2, (uint32)(own >> 32));
    }
};

// One column of the sums of a centroid, from its words: coordinates, weight, a column that stays
// empty, squares, utility, as in the tables of `passes.py`.
template <int D, bool DETAIL> DEVICE uint64 total(const uint32 *table, int c, int column) {
    const uint32 *from = table + c * Words<D, DETAIL>::COUNT;
    if (column < D) return from[1 + 2 * column] + ((uint64)from[2 + 2 * column] << 16);
    if (column == D) return from[0];
    if (column == D + 1) return 0;
    from += 1 + 2 * D + 3 * (column - D - 2);
    return from[0] + ((uint64)from[1] << 16) + ((uint64)from[2] << 32);
}

// Where a mean moves a centroid to: three quarters of the step beyond it, unless that is too far. As
// `gpu_kmeans.distances.place_beyond`, operation by operation.
DEVICE double placed(double value) { return floor(value + 0.5); }

DEVICE double placed_beyond(double mean, double old) {
    double step = mean - old;
    double beyond = placed(mean + (step - step * 0.25));
    bool is_too_far = fabs(beyond - mean) > fabs(step) || beyond < 0.0 || beyond > 2.0 * MIDDLE;
    return is_too_far ? placed(mean) : beyond;
}
