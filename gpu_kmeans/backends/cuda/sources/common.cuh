// What every kernel here begins with.
//
// NVRTC compiles these files for the GPU at hand, see `program.py`. A C++ compiler makes the same
// files into functions for the CPU, with one thread to a block and one lane to a warp: so they are
// tested where there is no GPU. A kernel is right for any number of threads and lanes, therefore:
// threads stride over their work, `sync_threads` lies between writing and reading what is shared,
// and a warp speaks through the functions below alone.

typedef unsigned char uint8;
typedef unsigned int uint32;
typedef unsigned long long uint64;
typedef long long int64;

#ifdef __CUDACC__

#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define DEVICE static __device__ __forceinline__
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
DEVICE uint32 warp_get(uint32 value, int lane) { return __shfl_sync(~0u, value, lane); }
DEVICE uint64 warp_get(uint64 value, int lane) { return __shfl_sync(~0u, value, lane); }
DEVICE double warp_get(double value, int lane) { return __shfl_sync(~0u, value, lane); }
DEVICE void add_to(uint32 *to, uint32 value) { atomicAdd(to, value); }
DEVICE void add_to(uint64 *to, uint64 value) { atomicAdd(to, value); }
DEVICE uint32 take_ticket(uint32 *from) { return atomicAdd(from, 1u); }
DEVICE void before_ticket() { __threadfence(); }  // what was written is seen by who comes later
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
#define KERNEL(threads) extern "C" void
#define DEVICE static inline
#define SHARED static
#define WARP 1
static unsigned char arena[1 << 20];
extern "C" {
int block_of_launch = 0;
}

using std::fabs;
using std::floor;
using std::sqrt;
DEVICE int block_index() { return block_of_launch; }
DEVICE int thread_index() { return 0; }
DEVICE int thread_count() { return 1; }
DEVICE void sync_threads() {}
DEVICE void sync_warp() {}
DEVICE uint32 warp_ballot(bool is) { return is; }
DEVICE uint32 warp_min(uint32 value) { return value; }
DEVICE uint32 warp_max(uint32 value) { return value; }
DEVICE uint32 warp_add(uint32 value) { return value; }
DEVICE uint32 warp_get(uint32 value, int) { return value; }
DEVICE uint64 warp_get(uint64 value, int) { return value; }
DEVICE double warp_get(double value, int) { return value; }
DEVICE void add_to(uint32 *to, uint32 value) { *to += value; }
DEVICE void add_to(uint64 *to, uint64 value) { *to += value; }
DEVICE uint32 take_ticket(uint32 *from) { return (*from)++; }
DEVICE void before_ticket() {}
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
template <typename T> DEVICE T read_fresh(const T *from) { return *from; }

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
