// One pass over the points of pictures, and the step that follows: see `blocks.py`.
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

// What the host tells of problems: as in `layout.cu`.
enum Column { OFFSET, FIRST_TILE, FIRST_BLOCK };

// Rows of eight bytes to each problem: how it stands, iterations done, the WCSS of the last pass,
// the shift at which it rests. After them the WCSS of each iteration, in rows likewise.
enum State { STATUS, N_ITER, WCSS, LIMIT, HISTORY };

struct Problem {  // the one that a block serves
    int b, first, count, total, depth;
    float *centroids;
    uint64 *table;
    int64 *state;  // none where nothing but a measure is wanted
    double still;

    DEVICE_MEMBER int64 &whole(int row) const { return state[(int64)row * total + b]; }
    DEVICE_MEMBER double &real(int row) const { return ((double *)state)[(int64)row * total + b]; }
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

// `gpu_kmeans.descent.descend`, one iteration.
template <int D> DEVICE void descend_step(const Problem &of, double cost, bool is_beyond) {
    SHARED int lonely;
    if (thread_index() == 0) lonely = 0;
    sync_threads();
    FOR_THREADS(c, of.count)
        if (!read_fresh(of.table + (int64)(of.first + c) * (D + 2) + D)) lonely = 1;
    sync_threads();
    if (lonely) {
        if (thread_index() == 0) of.whole(STATUS) = LONELY;
        return;
    }
    double shift = move<D>(of, is_beyond);
    if (thread_index() == 0) {
        int64 done = of.whole(N_ITER);
        double previous = of.real(WCSS);  // infinite before the first
        of.real(HISTORY + (int)done) = cost;
        of.real(WCSS) = cost;
        of.whole(N_ITER) = done + 1;
        if (previous - cost < of.still * cost || shift <= of.real(LIMIT))
            of.whole(STATUS) = RESTS;
        else if (done + 1 == of.depth)
            of.whole(STATUS) = ENDED;
    }
}

// `Backend.settle`, one pass.
template <int D> DEVICE void settle_step(const Problem &of, double cost, bool is_last) {
    double previous = of.real(WCSS);
    sync_threads();  // all have read it
    bool rests = previous - cost <= of.still * cost;
    if (thread_index() == 0) {
        of.real(WCSS) = cost;
        if (rests) of.whole(STATUS) = RESTS;
    }
    if (!rests && !is_last) move<D>(of, true);
}

// What a measure is wanted for, as float64, one after the other: sums (rows, D), masses (rows), with
// DETAIL squares (rows, D) and utilities (rows); the WCSS of each problem.
template <int D, bool DETAIL> DEVICE void tell(const Problem &of, int rows, double *found) {
    const int columns = DETAIL ? 2 * D + 3 : D + 2;
    const uint64 *sums = of.table + (int64)of.first * columns;
    double *masses = found + (int64)rows * D, *squares = masses + rows;
    double *utilities = squares + (int64)rows * D, *wcss = DETAIL ? utilities + rows : squares;
    FOR_THREADS(i, of.count * D) {
        int c = i / D, j = i % D;
        found[(int64)of.first * D + i] = (double)read_fresh(sums + c * columns + j);
        if (DETAIL) squares[(int64)of.first * D + i] = (double)read_fresh(sums + c * columns + D + 2 + j);
    }
    FOR_THREADS(c, of.count) {
        masses[of.first + c] = (double)read_fresh(sums + c * columns + D);
        if (DETAIL) utilities[of.first + c] = (double)read_fresh(sums + c * columns + 2 * D + 2);
    }
    if (thread_index() == 0) wcss[of.b] = (double)read_fresh(sums + D + 1);
}

template <int D, bool DETAIL>
DEVICE void pass(const float *points, const int64 *masses, int size, const float *boxes, int tiles,
                 Table all, int blocks, int each, const int *offsets, const int *is_resting,
                 int *labels, uint32 *tickets, Problem of, double *found, int step, int is_last) {
    int set = block_index() / blocks, block = block_index() % blocks, sets = of.total / all.count;
    int p = owner_of(all, FIRST_BLOCK, block);
    int first_block = (int)told(all, FIRST_BLOCK, p);
    int block_count = (int)told(all, FIRST_BLOCK, p + 1) - first_block;
    of.b = p * sets + set;
    of.first = offsets[of.b];
    of.count = offsets[of.b + 1] - of.first;
    if (step == NOTHING ? is_resting && is_resting[of.b] : of.whole(STATUS) != GOES_ON) {
        // Its sums are zeros.
        if (step == NOTHING && block == first_block) tell<D, DETAIL>(of, offsets[of.total], found);
        return;
    }
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
    int first_tile = (int)told(all, FIRST_TILE, p), last_tile = (int)told(all, FIRST_TILE, p + 1);
    int begin = first_tile + (block - first_block) * each;
    int end = begin + each < last_tile ? begin + each : last_tile;
    int64 offset = told(all, OFFSET, p), n = told(all, OFFSET, p + 1) - offset;
    for (int t = begin + warp_index(); t < end; t += warp_count()) {
        Box<D> box;
        Points<D, 1> own;
        box.read(boxes, tiles, t);
        own.read(points, size, t);
        own.template find<DETAIL>(box, rows, of.count);
        own_cost += own.template add<DETAIL>(masses, t, table);
        if (!labels) continue;
        for (int i = 0; i < own.OWN; i++) {
            int64 row = own.place(t - first_tile, i);
            if (row < n) labels[offset + row] = own.label[i];
        }
    }
    own_cost = warp_add(own_cost);
    if (lane_index() == 0) add_to(&cost, own_cost);
    sync_threads();
    FOR_THREADS(i, of.count * columns) {
        uint64 share = total<D, DETAIL>(table, i / columns, i % columns);
        if (share) add_to(of.table + (int64)of.first * columns + i, share);
    }
    if (thread_index() == 0) add_to(of.table + (int64)of.first * columns + D + 1, cost);
    before_ticket();
    sync_threads();
    if (thread_index() == 0) is_latest = take_ticket(tickets + of.b) == (uint32)(block_count - 1);
    sync_threads();
    if (!is_latest) return;
    before_ticket();
    double total_cost = (double)read_fresh(of.table + (int64)of.first * columns + D + 1);
    if (step == NOTHING)
        tell<D, DETAIL>(of, offsets[of.total], found);
    else if (!DETAIL) {
        if (step == SETTLE)
            settle_step<D>(of, total_cost, is_last);
        else
            descend_step<D>(of, total_cost, step == OVER_RELAXED);
    }
    sync_threads();
    clear<D>(of, columns);
    if (thread_index() == 0) tickets[of.b] = 0;
}

#define PASS(NAME, D, DETAIL)                                                                      \
    KERNEL(512)                                                                                    \
    NAME(const float *points, const int64 *masses, int size, const float *boxes, int tiles,        \
         const int64 *columns, int problems, int blocks, int each, const int *offsets, int total,  \
         float *centroids, uint64 *table, uint32 *tickets, const int *is_resting, int *labels,     \
         double *found, int64 *state, int depth, double still, int step, int is_last) {            \
        Table all = {columns, problems};                                                           \
        Problem of{0, 0, 0, total, depth, centroids, table, state, still};                         \
        pass<D, DETAIL>(points, masses, size, boxes, tiles, all, blocks, each, offsets,            \
                        is_resting, labels, tickets, of, found, step, is_last);                    \
    }

PASS(pass_3, 3, false)
PASS(pass_4, 4, false)
PASS(pass_3_detail, 3, true)
PASS(pass_4_detail, 4, true)
