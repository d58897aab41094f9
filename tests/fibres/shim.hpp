// What `common.cuh` leaves open where all threads of a block run: see `engine.cpp`.
#pragma once

typedef unsigned char uint8;
typedef unsigned int uint32;
typedef unsigned long long uint64;
typedef long long int64;

#define KERNEL(threads) extern "C" void
#define KERNEL_IN_CLUSTERS(blocks, threads) extern "C" void
#define SHARED static
#define WARP 32
#define HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

extern unsigned char *arena;  // of the block that runs

int block_index();
int thread_index();
int thread_count();
int cluster_size();
int cluster_rank();

void sync_threads(HERE);
void sync_cluster(HERE);
void sync_warp(HERE);
uint32 warp_ballot(bool is, HERE);
uint32 warp_min(uint32 value, HERE);
uint32 warp_max(uint32 value, HERE);
uint32 warp_add(uint32 value, HERE);
uint32 warp_match(uint32 value, HERE);
uint32 warp_get(uint32 value, int lane, HERE);
uint64 warp_get(uint64 value, int lane, HERE);
double warp_get(double value, int lane, HERE);

void add_to(uint32 *to, uint32 value);
void add_to(uint64 *to, uint64 value);
void raise_to(uint32 *of, uint32 value);
void lower_to(uint32 *of, uint32 value);
void set_bits(uint32 *of, uint32 bits);
uint32 take(uint32 *from, uint32 count);
uint32 take_ticket(uint32 *from);
void before_ticket();
uint32 read_fresh(const uint32 *from);
uint64 read_fresh(const uint64 *from);

const void *in_block_at(const void *own, int rank);
template <typename T> const T *in_block(const T *own, int rank) {
    return (const T *)in_block_at(own, rank);
}
