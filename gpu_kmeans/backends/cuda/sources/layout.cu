// Points of integral problems, coordinate by coordinate in tiles with boxes: see `layout.py`.

#define TILE 128  // points, a warp each

enum Column { OFFSET, FIRST_TILE };  // of problems

// Numbers that are in the order of the floats, and back.
DEVICE uint32 key_of(float value) {
    uint32 bits = bits_of(value);
    return bits >> 31 ? ~bits : bits | 1u << 31;
}

DEVICE float value_of(uint32 key) { return float_of(key >> 31 ? key & ~(1u << 31) : ~key); }

KERNEL(256) lay_out(
    const int64 *columns, int problems, int d, int tiles,
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
    int64 size = (int64)TILE * tiles;
    if (block_index() == 0) {
        FOR_THREADS(p, problems) {
            first_tile_of[p] = (int)told(all, FIRST_TILE, p);
            tiles_of[p] = (int)told(all, FIRST_TILE, p + 1) - first_tile_of[p];
        }
    }
    // As many tiles to a block as a full one has warps.
    int first = block_index() * 8, last = first + 8 < tiles ? first + 8 : tiles;
    for (int t = first + warp_index(); t < last; t += warp_count()) {
        int p = owner_of(all, FIRST_TILE, t);
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
            for (int j = 0; j < 4; j++) {
                if (j >= d) continue;
                float x = points[row * d + j];
                uint32 key = key_of(x);
                laid[j * size + to] = x;
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
        if (lane_index() == 0) problem_of[t] = p;
    }
}
