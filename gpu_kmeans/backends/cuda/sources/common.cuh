// What every kernel here begins with.
//
// NVRTC compiles these files for the GPU at hand, see `program.py`. A C++ compiler makes the same
// files into functions for the CPU, with one thread to a block and one lane to a warp: so they are
// tested where there is no GPU, and by fewer tests with all threads, see `tests/fibres`. A kernel
// is right for any number of threads and lanes, therefore:
// threads stride over their work, `sync_threads` lies between writing and reading what is shared,
// and a warp speaks through the functions below alone.

typedef unsigned char uint8;
typedef unsigned int uint32;
typedef unsigned long long uint64;
typedef long long int64;

#ifdef __CUDACC__

#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define KERNEL_IN_CLUSTERS(blocks, threads) KERNEL(threads) CLUSTERS_OF(blocks)
#if __CUDA_ARCH__ >= 900
#define CLUSTERS_OF(blocks) __cluster_dims__(blocks)
#else
#define CLUSTERS_OF(blocks)
#endif
#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define SHARED __shared__
#define WARP 32
extern __shared__ __align__(16) unsigned char arena[];  // as many bytes as the launch says

DEVICE int block_index() { return (int)blockIdx.x; }
DEVICE int thread_index() { return (int)threadIdx.x; }
DEVICE int thread_count() { return (int)blockDim.x; }
DEVICE void sync_threads() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }
DEVICE uint32 warp_ballot(bool is) { return __ballot_sync(~0u, is); }
DEVICE uint32 warp_min(uint32 value) { return __reduce_min_sync(~0u, value); }
DEVICE uint32 warp_max(uint32 value) { return __reduce_max_sync(~0u, value); }
DEVICE uint32 warp_add(uint32 value) { return __reduce_add_sync(~0u, value); }
DEVICE uint32 warp_match(uint32 value) { return __match_any_sync(~0u, value); }  // who has the same
DEVICE uint32 warp_get(uint32 value, int lane) { return __shfl_sync(~0u, value, lane); }
DEVICE uint64 warp_get(uint64 value, int lane) { return __shfl_sync(~0u, value, lane); }
DEVICE double warp_get(double value, int lane) { return __shfl_sync(~0u, value, lane); }
DEVICE void add_to(uint32 *to, uint32 value) { atomicAdd(to, value); }
DEVICE void add_to(uint64 *to, uint64 value) { atomicAdd(to, value); }
DEVICE void raise_to(uint32 *of, uint32 value) { atomicMax(of, value); }
DEVICE void lower_to(uint32 *of, uint32 value) { atomicMin(of, value); }
DEVICE void set_bits(uint32 *of, uint32 bits) { atomicOr(of, bits); }
DEVICE uint32 take(uint32 *from, uint32 count) { return atomicAdd(from, count); }
DEVICE uint32 take_ticket(uint32 *from) { return atomicAdd(from, 1u); }
DEVICE void before_ticket() { __threadfence(); }  // what was written is seen by who comes later

// Blocks of a cluster run at the same time, and read one another's memory.
#if __CUDA_ARCH__ >= 900
DEVICE int cluster_size() {
    int size;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
}
DEVICE int cluster_rank() {
    int rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
DEVICE void sync_cluster() {
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
template <typename T> DEVICE const T *in_block(const T *own, int rank) {
    const T *there;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(own), "r"(rank));
    return there;
}
#else
DEVICE int cluster_size() { return 1; }
DEVICE int cluster_rank() { return 0; }
DEVICE void sync_cluster() { __syncthreads(); }
template <typename T> DEVICE const T *in_block(const T *own, int) { return own; }
#endif
DEVICE int first_bit(uint32 bits) { return __ffs((int)bits) - 1; }
DEVICE int count_bits(uint32 bits) { return __popc(bits); }
DEVICE uint32 bits_of(float value) { return __float_as_uint(value); }
DEVICE float float_of(uint32 bits) { return __uint_as_float(bits); }
DEVICE uint64 bits_of(double value) { return (uint64)__double_as_longlong(value); }
DEVICE double double_of(uint64 bits) { return __longlong_as_double((int64)bits); }
DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
template <typename T> DEVICE T read_fresh(const T *from) { return __ldcg(from); }  // past the L1

#else

#include <cmath>
#include <cstring>
using std::fabs;
using std::floor;
using std::sqrt;
#define DEVICE static inline
#define DEVICE_MEMBER inline
DEVICE int first_bit(uint32 bits) { return __builtin_ffs((int)bits) - 1; }
DEVICE int count_bits(uint32 bits) { return __builtin_popcount(bits); }
template <typename To, typename From> DEVICE To same_bits(From from) {
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
DEVICE uint32 bits_of(float value) { return same_bits<uint32>(value); }
DEVICE float float_of(uint32 bits) { return same_bits<float>(bits); }
DEVICE uint64 bits_of(double value) { return same_bits<uint64>(value); }
DEVICE double double_of(uint64 bits) { return same_bits<double>(bits); }
DEVICE float fused(float a, float b, float c) { return std::fma(a, b, c); }

#ifndef ALL_THREADS  // or `tests/fibres` says all this, for as many threads as are launched
#define KERNEL(threads) extern "C" void
#define KERNEL_IN_CLUSTERS(blocks, threads) KERNEL(threads)
#define SHARED static
#define WARP 1
static unsigned char arena[1 << 20];
extern "C" {
int block_of_launch = 0;
}

DEVICE int block_index() { return block_of_launch; }
DEVICE int thread_index() { return 0; }
DEVICE int thread_count() { return 1; }
DEVICE void sync_threads() {}
DEVICE void sync_warp() {}
DEVICE uint32 warp_ballot(bool is) { return is; }
DEVICE uint32 warp_min(uint32 value) { return value; }
DEVICE uint32 warp_max(uint32 value) { return value; }
DEVICE uint32 warp_add(uint32 value) { return value; }
DEVICE uint32 warp_match(uint32) { return 1; }
DEVICE uint32 warp_get(uint32 value, int) { return value; }
DEVICE uint64 warp_get(uint64 value, int) { return value; }
DEVICE double warp_get(double value, int) { return value; }
DEVICE void add_to(uint32 *to, uint32 value) { *to += value; }
DEVICE void add_to(uint64 *to, uint64 value) { *to += value; }
DEVICE void raise_to(uint32 *of, uint32 value) { *of = value > *of ? value : *of; }
DEVICE void lower_to(uint32 *of, uint32 value) { *of = value < *of ? value : *of; }
DEVICE void set_bits(uint32 *of, uint32 bits) { *of |= bits; }
DEVICE uint32 take(uint32 *from, uint32 count) {
    *from += count;
    return *from - count;
}
DEVICE uint32 take_ticket(uint32 *from) { return take(from, 1); }
DEVICE void before_ticket() {}
DEVICE int cluster_size() { return 1; }
DEVICE int cluster_rank() { return 0; }
DEVICE void sync_cluster() {}
template <typename T> DEVICE const T *in_block(const T *own, int) { return own; }
template <typename T> DEVICE T read_fresh(const T *from) { return *from; }
#endif

#endif

#define FOR_THREADS(i, n) for (int i = thread_index(); i < (n); i += thread_count())
#define INFINITE float_of(0x7f800000u)
#define INFINITE_DOUBLE double_of(0x7ff0000000000000ull)

DEVICE int lane_index() { return thread_index() % WARP; }
DEVICE int warp_index() { return thread_index() / WARP; }
DEVICE int warp_count() { return (thread_count() + WARP - 1) / WARP; }

// The sum of a value over the lanes of a warp, in every lane.
DEVICE uint64 warp_add(uint64 value) {
    for (int step = WARP / 2; step; step /= 2) value += warp_get(value, lane_index() ^ step);
    return value;
}

// Columns of numbers, one of each for every picture (or problem), and one that ends the last.
struct Table {
    const int64 *columns;  // (columns, count + 1)
    int count;
};

DEVICE int64 told(Table table, int column, int row) {
    return table.columns[column * (table.count + 1) + row];
}

// Whose block this is, where those of each row begin as a column says.
DEVICE int owner_of(Table table, int column, int block) {
    int low = 0, high = table.count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (told(table, column, middle) <= block) low = middle;
        else high = middle;
    }
    return low;
}

// The sum of a value over the threads before this one; `all` becomes that over every thread.
DEVICE uint32 sum_before(uint32 value, uint32 *all) {
    SHARED uint32 of_warps[32];
    uint32 sum = value;
    for (int step = 1; step < WARP; step *= 2) {
        uint32 before = warp_get(sum, lane_index() < step ? 0 : lane_index() - step);
        if (lane_index() >= step) sum += before;
    }
    sync_threads();  // who called this before has read
    if (lane_index() == WARP - 1) of_warps[warp_index()] = sum;
    sync_threads();
    uint32 before = 0, total = 0;
    for (int w = 0; w < warp_count(); w++) {
        if (w < warp_index()) before += of_warps[w];
        total += of_warps[w];
    }
    *all = total;
    return before + sum - value;
}

// Call `give(rank, i)` for each i of begin..end - 1 for which `is(i)`, ranked in their order from 0
// on, by all threads of a block in whole warps; return how many those are.
template <typename Is, typename Give>
DEVICE uint32 give_ranks(int begin, int end, Is is, Give give) {
    int share = ((end - begin + warp_count() - 1) / warp_count() + WARP - 1) / WARP * WARP;
    int first = begin + warp_index() * share;
    int last = first + share < end ? first + share : end;
    uint32 count = 0, all;
    for (int at = first; at < last; at += WARP) {
        int i = at + lane_index();
        count += count_bits(warp_ballot(i < last && is(i)));
    }
    uint32 rank = warp_get(sum_before(lane_index() ? 0 : count, &all), 0);
    for (int at = first; at < last; at += WARP) {
        int i = at + lane_index();
        uint32 found = warp_ballot(i < last && is(i));
        if (found >> lane_index() & 1) {
            give(rank + count_bits(found & ((1u << lane_index()) - 1)), i);
        }
        rank += count_bits(found);
    }
    return all;
}
