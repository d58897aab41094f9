// A whole search for good centroids on a few thousand points of a picture: one block to a search, or
// a cluster of blocks where there are few searches. See `gpu_kmeans.refinement` for what is done and
// why; here the same is done in the same arithmetic.
//
// The blocks of a cluster share the points. After each pass they read one another's sums, and then
// all of them take the same step: nothing but sums goes between them.

#include "points.cuh"


// The state of one search, in the block's own memory. Centroids lie coordinate by coordinate.
template <int D, int PARTS> struct Search {
    const float *points, *boxes;
    const int64 *masses;
    int size, tiles, first_tile, end_tile;
    int room, count, copies;
    double still, wcss;
    Row<D> *rows;
    float *here, *there, *best;
    double *scores, *halves;
    int *places, *marks;
    uint32 *own_table, *table;  // of this block, and of all
    uint64 *cost;

    DEVICE_MEMBER void lay_out() {
        rows = (Row<D> *)arena;
        scores = (double *)(rows + room);
        halves = scores + room;
        here = (float *)(halves + room);
        there = here + D * room;
        best = there + D * room;
        places = (int *)(best + D * room);
        marks = places + room;
        own_table = (uint32 *)(marks + room);
        table = own_table + (cluster_size() > 1 ? room * Words<D, true>::COUNT : 0);
    }

    template <bool DETAIL> DEVICE_MEMBER uint64 sum(int c, int column) const {
        return total<D, DETAIL>(table, c, column);
    }

    // Give each point its nearest centroid and add it up there; return the sum of distances.
    template <bool DETAIL> DEVICE_MEMBER double pass() {
        const int WORDS = Words<D, DETAIL>::COUNT, blocks = cluster_size();
        const int parted = PARTS == 1 && !DETAIL ? copies : 1;
        FOR_THREADS(c, count) rows[c] = row_of<D>(here + c, room);
        FOR_THREADS(i, parted * count * WORDS) own_table[i] = 0;
        if (thread_index() == 0) *cost = 0;
        sync_threads();
        uint64 own_cost = 0;
        int step = blocks * warp_count();
        for (int p = first_tile * PARTS + warp_index() * blocks + cluster_rank(); p < end_tile * PARTS; p += step) {
            Box<D> box;
            Points<D, PARTS> own;
            box.read(boxes, tiles, p / PARTS);
            own.read(points, size, p);
            own.template find<DETAIL>(box, rows, count);
            if (PARTS == 1)
                own_cost += own.template add_each<DETAIL>(
                    masses, p, own_table + lane_index() % parted * count * WORDS);
            else
                own_cost += own.template add<DETAIL>(masses, p, own_table);
        }
        own_cost = warp_add(own_cost);
        if (lane_index() == 0) add_to(cost, own_cost);
        if (blocks == 1) {
            sync_threads();
            FOR_THREADS(i, parted > 1 ? count * WORDS : 0) {
                for (int copy = 1; copy < parted; copy++) own_table[i] += own_table[copy * count * WORDS + i];
            }
            double all = (double)*cost;
            sync_threads();
            return all;
        }
        sync_cluster();
        uint64 all = 0;
        for (int rank = 0; rank < blocks; rank++) all += *in_block(cost, rank);
        FOR_THREADS(i, count * WORDS) {
            uint32 sum = 0;
            for (int rank = 0; rank < blocks; rank++) sum += in_block(own_table, rank)[i];
            table[i] = sum;
        }
        sync_cluster();  // all have read what the next pass clears
        return (double)all;
    }

    DEVICE_MEMBER double mean(double mass, double sum, double old) const {
        return mass > 0.0 ? sum / mass : old;
    }

    // `Backend.settle`: over-relaxed Lloyd iterations; the last pass only measures.
    DEVICE_MEMBER void settle(int steps) {
        wcss = INFINITE_DOUBLE;
        for (int i = 0; i < steps; i++) {
            double previous = wcss;
            wcss = pass<false>();
            if (previous - wcss <= still * wcss || i == steps - 1) break;
            FOR_THREADS(c, count) {
                double mass = (double)sum<false>(c, D);
                for (int j = 0; j < D; j++) {
                    double old = here[j * room + c];
                    here[j * room + c] = (float)placed_beyond(mean(mass, (double)sum<false>(c, j), old), old);
                }
            }
            sync_threads();
        }
        // Of the last pass nothing is read but what each thread has.
    }

    // How many of the numbers come before the c-th in falling order, or in rising order.
    DEVICE_MEMBER int rank(const double *numbers, int c, bool falls) const {
        double own = numbers[c];
        int before = 0;
        for (int i = 0; i < count; i++) {
            double other = numbers[i];
            before += (falls ? other > own : other < own) || (other == own && i < c);
        }
        return before;
    }

    // `refinement.split_widest`: the clusters of largest gain, each along its widest coordinate.
    DEVICE_MEMBER void split(int extra, const double *luck, double reach) {
        pass<true>();
        FOR_THREADS(c, count) {
            double mass = (double)sum<true>(c, D), divisor = mass > 0.0 ? mass : 1.0;
            double widest = -1.0;
            int coordinate = 0;
            for (int j = 0; j < D; j++) {
                double mean = (double)sum<true>(c, j) / divisor;
                double variance = (double)sum<true>(c, D + 2 + j) / divisor - mean * mean;
                if (j == 0 || variance > widest) {
                    coordinate = j;
                    widest = variance;
                }
            }
            widest = widest > 0.0 ? widest : 0.0;
            scores[c] = luck ? mass * widest / luck[c] : mass * widest;
            halves[c] = reach * sqrt(widest);
            marks[c] = coordinate;
        }
        sync_threads();
        FOR_THREADS(c, count) {
            int order = rank(scores, c, true);
            double mass = (double)sum<true>(c, D);
            for (int j = 0; j < D; j++) {
                double middle = mean(mass, (double)sum<true>(c, j), here[j * room + c]);
                double shift = order < extra && marks[c] == j ? halves[c] : 0.0;
                here[j * room + c] = (float)placed(middle + shift);
                if (order < extra) here[j * room + count + order] = (float)placed(middle - shift);
            }
        }
        sync_threads();
        count += extra;
    }

    // `refinement._drop_least_useful`: one beside another that has just gone is kept.
    DEVICE_MEMBER void drop(int extra) {
        pass<true>();
        FOR_THREADS(c, count) {
            scores[c] = (double)sum<true>(c, 2 * D + 2);
            float least = INFINITE;
            int neighbor = 0;
            for (int i = 0; i < count; i++) {
                float distance = 0.0f;
                for (int j = 0; j < D; j++) {
                    float difference = here[j * room + c] - here[j * room + i];
                    distance = fused(difference, difference, distance);
                }
                if (i != c && distance < least) {
                    least = distance;
                    neighbor = i;
                }
            }
            marks[c] = neighbor;
        }
        sync_threads();
        int *order = (int *)halves, *state = order + room;  // 1: needed, 2: gone
        FOR_THREADS(c, count) {
            order[rank(scores, c, false)] = c;
            state[c] = 0;
        }
        sync_threads();
        if (thread_index() == 0) {
            int left = extra;
            for (int i = 0; i < count && left; i++) {
                int c = order[i];
                if (state[c]) continue;
                state[c] = 2;
                if (state[marks[c]] == 0) state[marks[c]] = 1;
                left--;
            }
            for (int i = 0; i < count && left; i++) {
                if (state[order[i]] == 2) continue;
                state[order[i]] = 2;
                left--;
            }
        }
        sync_threads();
        FOR_THREADS(c, count) {
            if (state[c] == 2) continue;
            int place = 0;
            for (int i = 0; i < c; i++) place += state[i] != 2;
            double mass = (double)sum<true>(c, D);
            for (int j = 0; j < D; j++)
                there[j * room + place] = (float)placed(mean(mass, (double)sum<true>(c, j), here[j * room + c]));
        }
        sync_threads();
        float *swapped = here;
        here = there;
        there = swapped;
        count -= extra;
    }

    DEVICE_MEMBER void copy(float *to, const float *from, int k) const {
        FOR_THREADS(i, k * D) to[i % D * room + i / D] = from[i % D * room + i / D];
        sync_threads();
    }
    DEVICE_MEMBER void read(float *to, const float *from, int k) const {
        FOR_THREADS(i, k * D) to[i % D * room + i / D] = from[i];
        sync_threads();
    }
    DEVICE_MEMBER void write(float *to, const float *from, int k) const {
        FOR_THREADS(i, k * D) to[i] = from[i % D * room + i / D];
    }
};

// Go on by a breath from the better of the best so far and what its lanes have found.
//
// `lanes` searches in a row go on side by side from the same best. What they find is written to
// `found`, for the next launch to choose from: read and written alternate between two copies. A
// single lane chooses at once.
template <int D, int PARTS>
DEVICE void advance(Search<D, PARTS> search, const int *first_tile_of, const int *tiles_of, const float *starts,
                    int kept, int first_steps, int is_growing, int searches, int lanes, int extra,
                    int steps_in, int steps_out, double reach, const double *luck, int luck_stride,
                    const float *found_before, const double *wcss_before, const float *best_before,
                    const double *lowest_before, float *found, double *wcss, float *best, double *lowest) {
    SHARED uint64 cost;
    int b = block_index() / cluster_size(), group = b / lanes, problem = group / searches, rows = search.room * D;
    search.cost = &cost;
    search.first_tile = first_tile_of[problem];
    search.end_tile = search.first_tile + tiles_of[problem];
    search.count = kept;
    search.lay_out();
    double least;
    if (first_steps) {
        search.read(search.here, starts + (int64)group * rows, kept);
        search.settle(first_steps);
        search.copy(search.best, search.here, kept);
        least = search.wcss;
    } else {
        const float *chosen = best_before + (int64)group * rows;
        least = lowest_before[group];
        for (int lane = 0; lane < lanes; lane++) {
            int other = group * lanes + lane;
            if (lanes > 1 && wcss_before[other] < least) {
                least = wcss_before[other];
                chosen = found_before + (int64)other * rows;
            }
        }
        search.read(search.best, chosen, kept);
        search.copy(search.here, search.best, kept);
    }
    if (is_growing) {
        search.split(1, 0, reach);
        search.settle(steps_out);
        kept++;
        search.copy(search.best, search.here, kept);
        least = search.wcss;
    }
    if (extra) {
        search.split(extra, luck + (int64)(b % (searches * lanes)) * luck_stride, reach);
        search.settle(steps_in);
        search.drop(extra);
        search.settle(steps_out);
        if (lanes > 1 && cluster_rank() == 0) {
            search.write(found + (int64)b * rows, search.here, kept);
            if (thread_index() == 0) wcss[b] = search.wcss;
        } else if (lanes == 1 && search.wcss < least) {
            least = search.wcss;
            search.copy(search.best, search.here, kept);
        }
    }
    if (b % lanes == 0 && cluster_rank() == 0) {
        search.write(best + (int64)group * rows, search.best, kept);
        if (thread_index() == 0) lowest[group] = least;
    }
}

#define ADVANCE(NAME, D, PARTS, KIND)                                                              \
    KIND                                                                                           \
    NAME(const float *points, const int64 *masses, int size, const float *boxes, int tiles,        \
         const int *first_tile_of, const int *tiles_of, const float *starts, int room, int kept,   \
         int first_steps, int is_growing, int searches, int lanes, int extra, int steps_in,        \
         int steps_out, int copies, double still, double reach, const double *luck, int luck_stride,           \
         const float *found_before, const double *wcss_before, const float *best_before,           \
         const double *lowest_before, float *found, double *wcss, float *best, double *lowest) {   \
        Search<D, PARTS> search;                                                                   \
        search.points = points;                                                                    \
        search.boxes = boxes;                                                                      \
        search.masses = masses;                                                                    \
        search.size = size;                                                                        \
        search.tiles = tiles;                                                                      \
        search.room = room;                                                                        \
        search.copies = copies;                                                                    \
        search.still = still;                                                                      \
        advance<D>(search, first_tile_of, tiles_of, starts, kept, first_steps, is_growing,         \
                   searches, lanes, extra, steps_in, steps_out, reach, luck, luck_stride,          \
                   found_before, wcss_before, best_before, lowest_before, found, wcss, best, lowest);\
    }

ADVANCE(advance_3, 3, 1, KERNEL(1024))
ADVANCE(advance_4, 4, 1, KERNEL(1024))
ADVANCE(advance_3_together, 3, 4, KERNEL_IN_CLUSTERS(8, 512))
ADVANCE(advance_4_together, 4, 4, KERNEL_IN_CLUSTERS(8, 512))
