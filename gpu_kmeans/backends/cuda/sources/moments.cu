// What lies about the pixels of each entry of the palette, blurred: all in whole numbers.

const int MOST_ENTRIES = 256;
const int REACH = 2;  // of the blur
const int ROWS = 16, COLUMNS = 32;  // of a tile of pixels
const int WIDE = COLUMNS + 2 * REACH, TALL = ROWS + 2 * REACH;
const int TILE_THREADS = ROWS * COLUMNS;
const uint32 NOBODY = 256;  // the entry of what lies beyond the edges

// A pixel: coordinates below 2^11, the missing ones 0, and its entry.
DEVICE uint64 pixel_of(const uint32 *level, uint32 entry) {
    return (level[0] | level[1] << 11 | entry << 22) | (uint64)(level[2] | level[3] << 11) << 32;
}

DEVICE int level_of(uint64 pixel, int j) {
    uint32 half = j < 2 ? (uint32)pixel : (uint32)(pixel >> 32);
    return (int)((j % 2 ? half >> 11 : half) & 2047);
}

DEVICE uint32 entry_of(uint64 pixel) { return (uint32)pixel >> 22; }

// Where a pair of entries is counted, whichever comes first.
DEVICE uint32 pair_of(uint32 a, uint32 b) {
    uint32 low = a < b ? a : b, high = a < b ? b : a;
    return high * (high + 1) / 2 + low;
}

// A block counts for every `blocks`-th tile, each pair of pixels once: both ways are alike. What it
// counts stays below 2^32, so long as it has fewer than 2^24 pixels.
template <int D> DEVICE void count_blurred(
    const float *colors, const int *inverse, const uint8 *indices, uint64 *meetings, uint64 *sums,
    int blocks, int h, int w, int k
) {
    SHARED uint64 pixels[TALL * WIDE];
    SHARED uint64 totals[MOST_ENTRIES * D];
    SHARED uint32 recent[MOST_ENTRIES * D];  // of this tile: below 2^32
    uint32 *counts = (uint32 *)arena;  // of pairs of entries
    const int blur[2 * REACH + 1] = {1, 4, 6, 4, 1};  // as BLUR
    FOR_THREADS(i, k * (k + 1) / 2) counts[i] = 0;
    FOR_THREADS(i, k * D) totals[i] = recent[i] = 0;
    const int across = (w + COLUMNS - 1) / COLUMNS, tiles = (h + ROWS - 1) / ROWS * across;
    for (int tile = block_index(); tile < tiles; tile += blocks) {
        const int top = tile / across * ROWS - REACH, first = tile % across * COLUMNS - REACH;
        sync_threads();
        FOR_THREADS(i, TALL * WIDE) {
            const int y = top + i / WIDE, x = first + i % WIDE;
            uint32 level[4] = {0, 0, 0, 0}, entry = NOBODY;
            if (y >= 0 && y < h && x >= 0 && x < w) {
                const int64 at = (int64)y * w + x;
                for (int j = 0; j < D; j++)
                    level[j] = (uint32)colors[(int64)inverse[at] * D + j];
                entry = indices[at];
            }
            pixels[i] = pixel_of(level, entry);
        }
        sync_threads();
        FOR_THREADS(i, ROWS * COLUMNS) {
            const uint64 *corner = pixels + i / COLUMNS * WIDE + i % COLUMNS;
            const uint32 entry = entry_of(corner[REACH * WIDE + REACH]);
            if (entry == NOBODY) continue;
            uint32 all[D] = {};
#pragma unroll
            for (int v = 0; v < 2 * REACH + 1; v++) {
#pragma unroll
                for (int u = 0; u < 2 * REACH + 1; u++) {
                    const uint64 other = corner[v * WIDE + u];
                    const uint32 weight = blur[v] * blur[u], there = entry_of(other);
                    for (int j = 0; j < D; j++) all[j] += weight * level_of(other, j);
                    const bool is_itself = v == REACH && u == REACH;
                    const bool is_after = v > REACH || (v == REACH && u >= REACH);
                    if (!is_after || there == NOBODY) continue;
                    const bool is_double = there == entry && !is_itself;
                    add_to(&counts[pair_of(entry, there)], is_double ? 2 * weight : weight);
                }
            }
            for (int j = 0; j < D; j++) add_to(&recent[entry * D + j], all[j]);
        }
        sync_threads();
        FOR_THREADS(i, k * D) {
            totals[i] += recent[i];
            recent[i] = 0;
        }
    }
    sync_threads();
    FOR_THREADS(i, k * k) {
        const uint32 count = counts[pair_of((uint32)(i / k), (uint32)(i % k))];
        if (count) add_to(&meetings[i], (uint64)count);
    }
    FOR_THREADS(i, k * D) if (totals[i]) add_to(&sums[i], totals[i]);
}

KERNEL(TILE_THREADS) count_blurred_3(
    const float *colors, const int *inverse, const uint8 *indices, uint64 *meetings, uint64 *sums,
    int blocks, int h, int w, int k
) {
    count_blurred<3>(colors, inverse, indices, meetings, sums, blocks, h, w, k);
}

KERNEL(TILE_THREADS) count_blurred_4(
    const float *colors, const int *inverse, const uint8 *indices, uint64 *meetings, uint64 *sums,
    int blocks, int h, int w, int k
) {
    count_blurred<4>(colors, inverse, indices, meetings, sums, blocks, h, w, k);
}
