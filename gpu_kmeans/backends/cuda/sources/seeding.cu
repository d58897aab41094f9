// Greedy k-means++ on a few thousand points of a picture: one block to a problem, all seeds in one
// launch. See `gpu_kmeans.seeding`. Sums are whole numbers: exact, whatever their order.
//
// Each warp owns points that lie in a row, so that the sums of warps before it say where it begins.

#define TILE 128
#define MOST_DRAWS 32
#define MOST_WARPS 32
#define HEAVY (1ull << 31)  // what a problem must not weigh: see `points.cuh`
#define AT_ONCE 4  // candidates whose distances a lane adds up side by side


template <int D> DEVICE void read(const float *points, int size, int i, float *x) {
    for (int j = 0; j < D; j++) x[j] = points[(int64)j * size + i];
}

template <int D> DEVICE float squared_distance(const float *x, const float *y) {
    float sum = 0.0f;
    for (int j = 0; j < D; j++) sum = fused(x[j] - y[j], x[j] - y[j], sum);
    return sum;
}

DEVICE uint64 warp_add_before(uint64 own, uint64 *all) {
    uint64 running = own;
    for (int step = 1; step < WARP; step *= 2) {
        uint64 other = warp_get(running, lane_index() >= step ? lane_index() - step : lane_index());
        if (lane_index() >= step) running += other;
    }
    *all = warp_get(running, WARP - 1);
    return running - own;
}

// The first of n numbers at which their running sum exceeds a target, n where none does; what comes
// before it is added to `before`. A warp looks at its lanes' numbers, WARP at a time.
template <typename Number>
DEVICE int first_beyond(int n, double target, uint64 *before, const Number &number) {
    for (int base = 0; base < n; base += WARP) {
        int i = base + lane_index();
        uint64 own = i < n ? number(i) : 0, all;
        uint64 ahead = *before + warp_add_before(own, &all);
        uint32 beyond = warp_ballot(own && (double)(ahead + own) > target);
        if (beyond) {
            int lane = first_bit(beyond);
            *before = warp_get(ahead, lane);
            return base + lane;
        }
        *before += all;
    }
    return n;
}

struct Listed {
    const uint64 *numbers;
    DEVICE_MEMBER uint64 operator()(int i) const { return numbers[i]; }
};

struct Potential {
    const int64 *masses;
    const float *nearest;
    DEVICE_MEMBER uint64 operator()(int i) const { return (uint64)masses[i] * (uint32)nearest[i]; }
};

template <int D>
DEVICE void seed(const float *points, const int64 *masses, int size, const int *first_tile_of,
                 const int *tiles_of, int searches, int k, int draws, const double *uniforms,
                 float *all_nearest, int *counts, float *centroids, int room) {
    SHARED uint64 sums[MOST_WARPS], left[MOST_DRAWS][MOST_WARPS], rest[MOST_DRAWS];
    SHARED float rows[MOST_DRAWS][D];
    int b = block_index(), set = b / searches, warps = warp_count();
    int begin = first_tile_of[set] * TILE, n = tiles_of[set] * TILE;
    int each = (n + warps * WARP - 1) / (warps * WARP) * WARP;
    int from = begin + warp_index() * each, to = from + each;
    from = from < begin + n ? from : begin + n;
    to = to < begin + n ? to : begin + n;
    float *nearest = all_nearest + (int64)(b % searches) * size;  // problems lie apart
    float chosen[D] = {};
    for (int step = 0; step < k; step++) {
        uint64 own = 0;
        for (int i = from + lane_index(); i < to; i += WARP) {
            float distance = 1.0f;
            if (step) {
                float x[D];
                read<D>(points, size, i, x);
                distance = squared_distance<D>(x, chosen);
                if (step > 1) distance = fminf(distance, nearest[i]);
            }
            nearest[i] = distance;
            own += (uint64)masses[i] * (uint32)distance;
        }
        own = warp_add(own);
        if (lane_index() == 0) sums[warp_index()] = own;
        sync_threads();
        uint64 all = 0;
        for (int w = 0; w < warps; w++) all += sums[w];
        if (!all || (step == 0 && all >= HEAVY)) {  // at first all is what the problem weighs
            if (thread_index() == 0) counts[b] = step;
            FOR_THREADS(i, (k - step) * D) centroids[((int64)b * room + step) * D + i] = 0.0f;
            return;
        }
        for (int q = warp_index(); q < draws; q += warps) {
            double target = uniforms[((int64)(b % searches) * k + step) * draws + q] * (double)all;
            uint64 before = 0;
            int w = first_beyond(warps, target, &before, Listed{sums});
            int start = begin + w * each, row = -1;
            if (w < warps) {
                int length = start + each < begin + n ? each : begin + n - start;
                row = start + first_beyond(length, target, &before, Potential{masses + start, nearest + start});
            } else {  // rounding put the target at the sum of all: the last that weighs anything
                for (int i = begin + n - 1; row < 0; i--)
                    if (masses[i] > 0 && nearest[i] > 0.0f) row = i;
            }
            if (lane_index() == 0) read<D>(points, size, row, rows[q]);
        }
        sync_threads();
        int best = 0;
        if (step) {
            for (int first = 0; first < draws; first += AT_ONCE) {
                uint64 remains[AT_ONCE] = {};
                for (int i = from + lane_index(); i < to; i += WARP) {
                    float x[D], known = nearest[i];
                    uint32 mass = (uint32)masses[i];
                    read<D>(points, size, i, x);
                    for (int q = 0; q < AT_ONCE; q++) {
                        float distance = squared_distance<D>(x, rows[first + q < draws ? first + q : 0]);
                        remains[q] += (uint64)mass * (uint32)fminf(distance, known);
                    }
                }
                for (int q = 0; q < AT_ONCE; q++) {
                    uint64 sum = warp_add(remains[q]);
                    if (lane_index() == 0 && first + q < draws) left[first + q][warp_index()] = sum;
                }
            }
            sync_threads();
            for (int q = warp_index(); q < draws; q += warps) {
                uint64 sum = 0;
                for (int w = lane_index(); w < warps; w += WARP) sum += left[q][w];
                sum = warp_add(sum);
                if (lane_index() == 0) rest[q] = sum;
            }
            sync_threads();
            for (int q = 1; q < draws; q++)
                if (rest[q] < rest[best]) best = q;
        }
        for (int j = 0; j < D; j++) chosen[j] = rows[best][j];
        FOR_THREADS(j, D) centroids[((int64)b * room + step) * D + j] = rows[best][j];
        // The rows are written anew after a barrier of the next step.
    }
    if (thread_index() == 0) counts[b] = k;
}

#define SEED(NAME, D)                                                                              \
    KERNEL(1024)                                                                                   \
    NAME(const float *points, const int64 *masses, int size, const int *first_tile_of,             \
         const int *tiles_of, int searches, int k, int draws, const double *uniforms,              \
         float *nearest, int *counts, float *centroids, int room) {                                \
        seed<D>(points, masses, size, first_tile_of, tiles_of, searches, k, draws, uniforms,       \
                nearest, counts, centroids, room);                                                 \
    }

SEED(seed_3, 3)
SEED(seed_4, 4)
