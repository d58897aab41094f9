// Points of integral problems, coordinate by coordinate in tiles with boxes: see `tiling.py`.

#define TILE 128  // points, a warp each

enum Column { OFFSET, FIRST_TILE, FIRST_BLOCK, COLUMNS };  // of problems; moments follow

// Numbers that are in the order of the floats, and back.
DEVICE uint32 key_of(float value) {
    uint32 bits = bits_of(value);
    return bits >> 31 ? ~bits : bits | 1u << 31;
}

DEVICE float value_of(uint32 key) { return float_of(key >> 31 ? key & ~(1u << 31) : ~key); }

#define HEAVY (1ll << 31)  // what a problem must not weigh where moments are to mean anything

KERNEL(256) lay_out(
    int64 *columns,  // moments: zeros; written: weight, squares about zero, and sums of each problem
    int problems, int d, int tiles,
    const float *points,  // (n, d)
    const double *weights,  // (n,)
    float *laid,  // (d, TILE x tiles), written like all below
    double *weights_laid,  // (TILE x tiles,)
    int64 *masses,  // (TILE x tiles,)
    int64 *rows,  // (TILE x tiles,)
    float *boxes,  // (2, d, tiles)
    int *problem_of,  // (tiles,)
    int *tiles_of,  // (problems,)
    int *first_tile_of  // (problems,)
) {
    Table all = {columns, problems};
    uint64 *moments = (uint64 *)columns + COLUMNS * (problems + 1);
    int64 size = (int64)TILE * tiles;
    SHARED uint64 of_block[6];  // moments of the problem of the block's first tile
    FOR_THREADS(i, 6) of_block[i] = 0;
    sync_threads();
    if (block_index() == 0) {
        FOR_THREADS(p, problems) {
            first_tile_of[p] = (int)told(all, FIRST_TILE, p);
            tiles_of[p] = (int)told(all, FIRST_TILE, p + 1) - first_tile_of[p];
        }
    }
    // As many tiles to a block as a full one has warps.
    int first = block_index() * 8, last = first + 8 < tiles ? first + 8 : tiles;
    int home = owner_of(all, FIRST_TILE, first);
    for (int t = first + warp_index(); t < last; t += warp_count()) {
        int p = owner_of(all, FIRST_TILE, t);
        uint64 own[6] = {};
        int64 begin = told(all, OFFSET, p), n = told(all, OFFSET, p + 1) - begin;
        int64 from = (t - told(all, FIRST_TILE, p)) * TILE;
        uint32 low[4] = {~0u, ~0u, ~0u, ~0u}, high[4] = {};
        for (int i = lane_index(); i < TILE; i += WARP) {
            int64 to = (int64)t * TILE + i;
            int64 row = begin + (from + i < n ? from + i : n - 1);
            double weight = from + i < n ? weights[row] : 0.0;
            weights_laid[to] = weight;
            masses[to] = (int64)weight;
            rows[to] = row;
            own[0] += weight < (double)HEAVY ? (uint64)(int64)weight : (uint64)HEAVY;
            for (int j = 0; j < 4; j++) {
                if (j >= d) continue;
                float x = points[row * d + j];
                uint32 key = key_of(x);
                laid[j * size + to] = x;
                uint64 share = (uint64)(int64)weight * (uint64)(int64)x;
                own[1] += share * (uint64)(int64)x;
                own[2 + j] += share;
                low[j] = key < low[j] ? key : low[j];
                high[j] = key > high[j] ? key : high[j];
            }
        }
        for (int j = 0; j < 4; j++) {
            if (j >= d) continue;
            float lowest = value_of(warp_min(low[j])), highest = value_of(warp_max(high[j]));
            if (lane_index() == 0) {
                boxes[(int64)j * tiles + t] = lowest;
                boxes[(int64)(d + j) * tiles + t] = highest;
            }
        }
        for (int i = 0; i < 6; i++) {
            if (i >= 2 + d) continue;
            uint64 sum = warp_add(own[i]);
            uint64 *to = p == home ? of_block + i : moments + (int64)p * (2 + d) + i;
            if (lane_index() == 0) add_to(to, sum);
        }
        if (lane_index() == 0) problem_of[t] = p;
    }
    sync_threads();
    FOR_THREADS(i, 2 + d) add_to(moments + (int64)home * (2 + d) + i, of_block[i]);
}
