// Greedy k-means++ on a few thousand points of a picture: one block to a problem, all seeds in one
// launch. See `gpu_kmeans.seeding`. Sums are whole numbers: exact, whatever their order.

#define MOST_DRAWS 32
#define TILE 128

// What comes before each thread's number, and the sum of all.
DEVICE uint64 sum_before(uint64 own, uint64 *sums, uint64 *all) {
    int lane = lane_index(), warps = warp_count();
    uint64 running = own;
    for (int step = 1; step < WARP; step *= 2) {
        uint64 other = warp_get(running, lane >= step ? lane - step : lane);
        if (lane >= step) running += other;
    }
    if (lane == WARP - 1) sums[warp_index()] = running;
    sync_threads();
    uint64 before = 0, total = 0;
    for (int w = 0; w < warps; w++) {
        if (w < warp_index()) before += sums[w];
        total += sums[w];
    }
    *all = total;
    sync_threads();
    return before + running - own;
}

template <int D> DEVICE uint64 squared_distance(const float *points, int size, int a, const float *row) {
    float sum = 0.0f;
    for (int j = 0; j < D; j++) {
        float difference = points[(int64)j * size + a] - row[j];
        sum = fused(difference, difference, sum);
    }
    return (uint64)(uint32)sum;
}

template <int D>
DEVICE void seed(const float *points, const int64 *masses, int size, const int *first_tile_of,
                 const int *tiles_of, int searches, int k, int draws, const double *uniforms,
                 float *nearest, int *seeds, int *counts, float *centroids, int room) {
    SHARED uint64 sums[32], left[MOST_DRAWS];
    SHARED int trials[MOST_DRAWS];
    SHARED float rows[MOST_DRAWS][D], chosen[D];
    int b = block_index(), set = b / searches;
    int begin = first_tile_of[set] * TILE, n = tiles_of[set] * TILE;
    int each = (n + thread_count() - 1) / thread_count();
    int from = begin + thread_index() * each, to = from + each;
    to = to < begin + n ? to : begin + n;
    float *so_far = nearest + (int64)b * size;
    for (int step = 0; step < k; step++) {
        uint64 own = 0;
        for (int i = from; i < to; i++) {
            float distance = 1.0f;
            if (step) {
                distance = (float)squared_distance<D>(points, size, i, chosen);
                if (step > 1 && so_far[i] < distance) distance = so_far[i];
            }
            so_far[i] = distance;
            own += (uint64)masses[i] * (uint32)distance;
        }
        uint64 all;
        uint64 before = sum_before(own, sums, &all);
        if (!all) {
            if (thread_index() == 0) counts[b] = step;
            return;
        }
        FOR_THREADS(q, draws) {
            trials[q] = -1;
            left[q] = 0;
        }
        sync_threads();
        for (int q = 0; q < draws; q++) {
            double target = uniforms[((int64)b * k + step) * draws + q] * (double)all;
            if (own && (double)(before + own) > target && (double)before <= target) {
                uint64 running = before;
                for (int i = from; i < to; i++) {
                    running += (uint64)masses[i] * (uint32)so_far[i];
                    if ((double)running > target) {
                        trials[q] = i;
                        break;
                    }
                }
            }
        }
        sync_threads();
        if (thread_index() == 0)  // rounding put a target at the total: the last that weighs anything
            for (int q = 0; q < draws; q++)
                for (int i = begin + n - 1; trials[q] < 0 && i >= begin; i--)
                    if ((uint64)masses[i] * (uint32)so_far[i]) trials[q] = i;
        sync_threads();
        FOR_THREADS(i, draws * D) rows[i / D][i % D] = points[(int64)(i % D) * size + trials[i / D]];
        sync_threads();
        if (step) {
            for (int q = 0; q < draws; q++) {
                uint64 rest = 0;
                for (int i = from; i < to; i++) {
                    uint64 distance = squared_distance<D>(points, size, i, rows[q]);
                    uint64 known = (uint32)so_far[i];
                    rest += (uint64)masses[i] * (distance < known ? distance : known);
                }
                rest = warp_add(rest);
                if (lane_index() == 0) add_to(&left[q], rest);
            }
            sync_threads();
        }
        int best = 0;
        for (int q = 1; q < draws && step; q++)
            if (left[q] < left[best]) best = q;
        FOR_THREADS(j, D) {
            chosen[j] = rows[best][j];
            centroids[((int64)b * room + step) * D + j] = rows[best][j];
        }
        if (thread_index() == 0) seeds[b * k + step] = trials[best];
        sync_threads();
    }
    if (thread_index() == 0) counts[b] = k;
}

#define SEED(NAME, D)                                                                              \
    KERNEL(1024)                                                                                   \
    NAME(const float *points, const int64 *masses, int size, const int *first_tile_of,             \
         const int *tiles_of, int searches, int k, int draws, const double *uniforms,              \
         float *nearest, int *seeds, int *counts, float *centroids, int room) {                    \
        seed<D>(points, masses, size, first_tile_of, tiles_of, searches, k, draws, uniforms,       \
                nearest, seeds, counts, centroids, room);                                          \
    }

SEED(seed_3, 3)
SEED(seed_4, 4)
