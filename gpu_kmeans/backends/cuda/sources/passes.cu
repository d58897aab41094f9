// One pass over the points of pictures, and the step that follows: see `passes.py`.
//
// A block owns some tiles of one problem, a warp one tile at a time. The block that finishes last
// takes the step.

#include "points.cuh"

#define NOTHING 0
#define DESCEND 1
#define SETTLE 2
#define OVER_RELAXED 5

#define GOES_ON 0
#define RESTS 1
#define LONELY 2
#define ENDED 3

struct Problem {  // the one that a block serves
    int b, first, count, depth;
    float *centroids;
    uint64 *table;
    int *status, *n_iter;
    double *wcss, *history;
    const double *limits, *still;
};

template <int D> DEVICE void clear(const Problem &of, int columns) {
    FOR_THREADS(i, of.count * columns) of.table[(int64)of.first * columns + i] = 0;
}

// Move to the grid points nearest to the means, or beyond them; return the squared shift of all.
template <int D> DEVICE double move(const Problem &of, bool is_beyond) {
    SHARED uint64 shift;
    if (thread_index() == 0) shift = 0;
    sync_threads();
    FOR_THREADS(c, of.count) {
        const uint64 *sums = of.table + (int64)(of.first + c) * (D + 2);
        float *centroid = of.centroids + (int64)(of.first + c) * D;
        double mass = (double)read_fresh(sums + D);
        uint64 moved = 0;
        for (int j = 0; j < D; j++) {
            double old = centroid[j];
            double mean = mass > 0.0 ? (double)read_fresh(sums + j) / mass : old;
            double now = is_beyond ? placed_beyond(mean, old) : placed(mean);
            centroid[j] = (float)now;
            moved += (uint64)((now - old) * (now - old));
        }
        add_to(&shift, moved);
    }
    sync_threads();
    return (double)shift;
}

// `gpu_kmeans.lloyd.descend`, one iteration.
template <int D> DEVICE void descend_step(const Problem &of, double cost, bool is_beyond) {
    SHARED int lonely;
    if (thread_index() == 0) lonely = 0;
    sync_threads();
    FOR_THREADS(c, of.count)
        if (!read_fresh(of.table + (int64)(of.first + c) * (D + 2) + D)) lonely = 1;
    sync_threads();
    if (lonely) {
        if (thread_index() == 0) of.status[of.b] = LONELY;
        return;
    }
    double shift = move<D>(of, is_beyond);
    if (thread_index() == 0) {
        int done = of.n_iter[of.b];
        double *here = of.history + (int64)of.b * of.depth + done;
        double previous = done > 0 ? here[-1] : INFINITE_DOUBLE;
        *here = cost;
        of.wcss[of.b] = cost;
        of.n_iter[of.b] = done + 1;
        if (previous - cost < *of.still * cost || shift <= of.limits[of.b])
            of.status[of.b] = RESTS;
        else if (done + 1 == of.depth)
            of.status[of.b] = ENDED;
    }
}

// `Backend.settle`, one pass.
template <int D> DEVICE void settle_step(const Problem &of, double cost, bool is_last) {
    double previous = of.wcss[of.b];
    sync_threads();  // all have read it
    bool rests = previous - cost <= *of.still * cost;
    if (thread_index() == 0) {
        of.wcss[of.b] = cost;
        if (rests) of.status[of.b] = RESTS;
    }
    if (!rests && !is_last) move<D>(of, true);
}

template <int D, bool DETAIL>
DEVICE void pass(const float *points, const int64 *masses, int size, const float *boxes, int tiles,
                 const int *blocks, int block_total, const int *blocks_of, int *labels,
                 uint32 *tickets, Problem of, const int *first_of, const int *count_of,
                 int step, int is_last) {
    of.b = blocks[block_index()];
    if (of.status[of.b] != GOES_ON) return;
    of.first = first_of[of.b];
    of.count = count_of[of.b];
    const int columns = DETAIL ? 2 * D + 3 : D + 2, WORDS = Words<D, DETAIL>::COUNT;
    Row<D> *rows = (Row<D> *)arena;
    uint32 *table = (uint32 *)(rows + of.count);
    SHARED uint64 cost;
    SHARED int is_latest;
    FOR_THREADS(c, of.count) rows[c] = row_of<D>(of.centroids + (int64)(of.first + c) * D, 1);
    FOR_THREADS(i, of.count * WORDS) table[i] = 0;
    if (thread_index() == 0) cost = 0;
    sync_threads();
    uint64 own_cost = 0;
    int begin = blocks[block_total + block_index()], end = blocks[2 * block_total + block_index()];
    for (int t = begin + warp_index(); t < end; t += warp_count()) {
        Box<D> box;
        Points<D, 1> own;
        box.read(boxes, tiles, t);
        own.read(points, size, t);
        own.template find<DETAIL>(box, rows, of.count);
        own_cost += own.template add<DETAIL>(masses, t, table);
        if (labels)
            for (int i = 0; i < own.OWN; i++) labels[own.place(t, i)] = own.label[i];
    }
    own_cost = warp_add(own_cost);
    if (lane_index() == 0) add_to(&cost, own_cost);
    sync_threads();
    FOR_THREADS(i, of.count * columns) {
        uint64 share = total<D, DETAIL>(table, i / columns, i % columns);
        if (share) add_to(of.table + (int64)of.first * columns + i, share);
    }
    if (thread_index() == 0) add_to(of.table + (int64)of.first * columns + D + 1, cost);
    if (step == NOTHING) return;
    before_ticket();
    sync_threads();
    if (thread_index() == 0)
        is_latest = take_ticket(tickets + of.b) == (uint32)(blocks_of[of.b] - 1);
    sync_threads();
    if (!is_latest) return;
    before_ticket();
    double all = (double)read_fresh(of.table + (int64)of.first * columns + D + 1);
    if (!DETAIL) {
        if (step == SETTLE)
            settle_step<D>(of, all, is_last);
        else
            descend_step<D>(of, all, step == OVER_RELAXED);
    }
    sync_threads();
    clear<D>(of, columns);
    if (thread_index() == 0) tickets[of.b] = 0;
}

#define PASS(NAME, D, DETAIL)                                                                      \
    KERNEL(512)                                                                                    \
    NAME(const float *points, const int64 *masses, int size, const float *boxes, int tiles,        \
         const int *blocks, int block_total, const int *blocks_of, const int *first_of,            \
         const int *count_of, float *centroids, uint64 *table, int *labels, uint32 *tickets,       \
         int *status, double *wcss, int *n_iter, double *history, const double *limits,            \
         const double *still, int step, int is_last, int depth) {                      \
        Problem of{0, 0, 0, depth, centroids, table, status, n_iter, wcss, history, limits, still};\
        pass<D, DETAIL>(points, masses, size, boxes, tiles, blocks, block_total, blocks_of,        \
                        labels, tickets, of, first_of, count_of, step, is_last);           \
    }

PASS(pass_3, 3, false)
PASS(pass_4, 4, false)
PASS(pass_3_detail, 3, true)
PASS(pass_4_detail, 4, true)
