// Runs all threads of a block on one thread of the CPU, and reports what would be wrong on a GPU.
//
// Each thread of a block, or of the blocks of a cluster, is a fibre: it runs until it meets others,
// at a barrier or where a warp speaks, and then another goes on. In which order threads, warps and
// blocks run is asked for: forward, backward or shuffled. What depends on it shows in the answers.
//
// Kernels are compiled as for ThreadSanitizer, with this in its place: each access to memory is
// noted here, and compared with the last ones. Two accesses of one place race, unless both read,
// both are atomic, or the one is known to come before the other: by a barrier, by `sync_warp`
// within a warp (nothing else a warp says orders memory), or by a ticket between blocks.
//
// Found besides: lanes of a warp, or warps of a block, that meet in different places or have ended
// while others wait; shared memory that is read before it is written, or beyond what was asked for,
// or of a block of the cluster that may not have begun or may have ended; a ticket taken before all
// that was written is fenced; what is in none of the arrays that a launch is told of; and numbers
// that are not aligned to their size, which a CPU reads and a GPU does not.

#include "shim.hpp"

#include <algorithm>
#include <csetjmp>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <memory>
#include <random>
#include <sys/mman.h>
#include <ucontext.h>
#include <unordered_map>
#include <utility>
#include <vector>

unsigned char *arena __attribute__((section(".data")));  // .bss is the shared memory of kernels

extern "C" __attribute__((visibility("hidden"))) char __bss_start[], _end[];

namespace {

const size_t STACK = (64 << 10) + 832, ARENA = 1 << 20;  // stacks begin in different sets of the cache
const int MOST_THREADS = 1024, WHOLES = 40, REALS = 8;

enum Kind { BALLOT, LEAST, MOST, SUM, MATCH, GET, SYNC_WARP, SYNC_THREADS, SYNC_CLUSTER, ENDED };
const char *const NAMES[] = {"warp_ballot", "warp_min", "warp_max", "warp_add", "warp_match",
                             "warp_get", "sync_warp", "sync_threads", "sync_cluster", "its end"};
enum Order { FORWARD, BACKWARD, SHUFFLED };  // or any greater number, which is the seed

struct Fibre {
    jmp_buf here;
    bool has_begun;
    int thread, rank;  // in its block, and of that in its cluster
    Kind kind;  // where it waits
    const char *file;
    int line, from;
    uint64 given, answer;
    // Since when all that its warp, block and cluster did before is done; when it fenced last.
    uint32 after_warp, after_block, after_cluster, fenced;
    bool has_unfenced;
};

// Who touched a place last. With others: several lanes of the warp, or several warps of the block.
struct Access {
    uint32 time, block, site;
    unsigned thread : 10, others : 2, is_atomic : 1;
};
enum Others { NO_OTHERS, OF_WARP, OF_BLOCK };

struct Place {
    Access write, read;
};
struct Page {
    Place places[1024];
};

struct Ticket {
    const void *at;
    uint32 time;
};

struct Array {
    uintptr_t begin, end;
};

struct Engine {
    std::vector<Fibre> fibres;
    char *stacks = nullptr;
    std::vector<char> kept;  // shared variables of each block of the cluster that does not run
    unsigned char *arenas = nullptr;
    char *base = nullptr;  // where this library begins
    int made = 0;  // for how many blocks those are
    int live = 0;  // whose shared variables are in their place
    Fibre *now = nullptr;
    jmp_buf scheduler, launcher;
    char message[600];
    void *kernel;
    int64 *wholes;
    double *reals;
    int threads, cluster, first_block;
    size_t shared;
    const Array *arrays, *last_array;  // in rising order, none of which touch
    int array_count;
    uint32 time = 1, launched, began;
    std::vector<int> ended;  // fibres of each block
    std::vector<uint32> read_by_others;  // when, of each block
    std::unordered_map<uint64, std::unique_ptr<Page>> pages;
    uint64 last_key = ~0ull;
    Page *last_page = nullptr;
    std::unordered_map<uint32, Ticket> tickets;  // by block
    Order order;
    std::mt19937 chance;
};
Engine *engine __attribute__((section(".data")));

size_t variables() { return (size_t)(_end - __bss_start); }
int block_of(const Fibre &fibre) { return engine->first_block + fibre.rank; }

[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char *format, ...) {
    va_list given;
    va_start(given, format);
    vsnprintf(engine->message, sizeof engine->message, format, given);
    va_end(given);
    _longjmp(engine->launcher, 1);
}

template <size_t> using Whole = int64;
template <size_t> using Real = double;

// Whole numbers and floating-point ones go to a function in registers of their own, whole numbers
// beyond those on the stack in slots of eight bytes: how many more there are does not matter.
template <size_t... W, size_t... R>
void call(std::index_sequence<W...>, std::index_sequence<R...>) {
    ((void (*)(Whole<W>..., Real<R>...))engine->kernel)(engine->wholes[W]..., engine->reals[R]...);
}

uint64 meet(Kind kind, uint64 given, int from, const char *file, int line) {
    Fibre &own = *engine->now;
    own.kind = kind;
    own.given = given;
    own.from = from;
    own.file = file;
    own.line = line;
    if (!_setjmp(own.here)) _longjmp(engine->scheduler, 1);
    return engine->now->answer;
}

void live_on() {
    for (;;) {
        call(std::make_index_sequence<WHOLES>(), std::make_index_sequence<REALS>());
        Fibre &own = *engine->now;
        if (engine->read_by_others[own.rank] >= own.after_cluster && engine->cluster > 1)
            fail("block %d ends while another reads its memory", block_of(own));
        meet(ENDED, 0, 0, "", 0);
    }
}

__attribute__((noinline)) void enter(Fibre &fibre) {
    fibre.has_begun = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = engine->stacks + STACK * (size_t)(&fibre - engine->fibres.data());
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, live_on, 0);
    setcontext(&context);
}

__attribute__((noinline)) void resume(Fibre &fibre) {
    if (fibre.rank != engine->live) {
        std::memcpy(&engine->kept[engine->live * variables()], __bss_start, variables());
        std::memcpy(__bss_start, &engine->kept[fibre.rank * variables()], variables());
        engine->live = fibre.rank;
    }
    arena = engine->arenas + ARENA * fibre.rank + 16;  // aligned no better than asked for
    engine->now = &fibre;
    if (_setjmp(engine->scheduler)) return;
    if (fibre.has_begun) _longjmp(fibre.here, 1);
    enter(fibre);
}

void make_fibres() {
    Engine &e = *engine;
    const size_t count = (size_t)e.threads * e.cluster;
    if (e.fibres.size() == count && e.made == e.cluster) return;
    if (e.made) munmap(e.stacks, e.fibres.size() * STACK), munmap(e.arenas, e.made * ARENA);
    e.made = e.cluster;
    auto map = [](size_t size) {
        return mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    };
    e.stacks = (char *)map(count * STACK);
    e.arenas = (unsigned char *)map(e.cluster * ARENA);
    e.kept.resize(e.cluster * variables());
    e.fibres.assign(count, Fibre{});
    for (size_t i = 0; i < count; i++) {
        e.fibres[i].thread = (int)(i % e.threads);
        e.fibres[i].rank = (int)(i / e.threads);
    }
}

std::vector<int> ordered(int count) {
    std::vector<int> those(count);
    for (int i = 0; i < count; i++) those[i] = i;
    if (engine->order == BACKWARD) std::reverse(those.begin(), those.end());
    if (engine->order >= SHUFFLED) std::shuffle(those.begin(), those.end(), engine->chance);
    return those;
}

// Which of the warps that may run goes on.
int chosen_of(std::vector<int> &ready) {
    size_t i = engine->order >= SHUFFLED ? engine->chance() % ready.size() : 0;
    if (engine->order == FORWARD) i = std::min_element(ready.begin(), ready.end()) - ready.begin();
    if (engine->order == BACKWARD) i = std::max_element(ready.begin(), ready.end()) - ready.begin();
    int warp = ready[i];
    ready[i] = ready.back();
    ready.pop_back();
    return warp;
}

void expect_one_place(const Fibre &a, const Fibre &b) {
    if (a.kind == b.kind && a.line == b.line && (a.file == b.file || !std::strcmp(a.file, b.file))) return;
    fail("threads %d and %d of block %d part: %s (%s:%d) and %s (%s:%d)", a.thread, b.thread,
         block_of(a), NAMES[a.kind], a.file, a.line, NAMES[b.kind], b.file, b.line);
}

// What a lane gets to know of what all lanes gave.
uint64 answer_of(const Fibre *lanes, int lane) {
    const Fibre &own = lanes[lane];
    uint64 found = own.kind == LEAST ? ~0u : 0;
    if (own.kind == GET) {
        if (own.from < 0 || own.from >= WARP) fail("warp_get from lane %d (%s:%d)", own.from, own.file, own.line);
        return lanes[own.from].given;
    }
    for (int i = 0; i < WARP; i++) {
        uint64 given = lanes[i].given;
        if (own.kind == BALLOT) found |= given << i;
        if (own.kind == MATCH) found |= (uint64)(given == own.given) << i;
        if (own.kind == LEAST) found = std::min(found, given);
        if (own.kind == MOST) found = std::max(found, given);
        if (own.kind == SUM) found = (uint32)(found + given);
    }
    return found;
}

// All fibres from `begin` to `end` have met: what each does from now on comes after.
void pass_barrier(size_t begin, size_t end, Kind kind) {
    Engine &e = *engine;
    uint32 time = ++e.time;
    for (size_t i = begin; i < end; i++) {
        Fibre &one = e.fibres[i];
        expect_one_place(e.fibres[begin], one);
        if (kind >= SYNC_WARP) one.after_warp = time;
        if (kind >= SYNC_THREADS) one.after_block = time;
        if (kind >= SYNC_CLUSTER) one.after_cluster = time;
    }
}

// Run the blocks of a cluster, or one alone, to their end.
void run_cluster() {
    Engine &e = *engine;
    make_fibres();
    std::memset(__bss_start, 0xa5, variables());
    for (int rank = 0; rank < e.cluster; rank++) {
        std::memcpy(&e.kept[rank * variables()], __bss_start, variables());
        std::memset(e.arenas + rank * ARENA, 0xa5, e.shared + 4096);
    }
    e.ended.assign(e.cluster, 0);
    e.read_by_others.assign(e.cluster, 0);
    e.live = 0;
    e.began = ++e.time;
    for (Fibre &one : e.fibres) {
        one.after_warp = one.after_block = one.after_cluster = e.time;
        one.fenced = 0;
        one.has_unfenced = false;
    }
    const int of_block = e.threads / WARP, warps = of_block * e.cluster;
    std::vector<std::vector<int>> of_lanes(16);
    for (auto &those : of_lanes) those = ordered(WARP);
    std::vector<int> ready = ordered(warps), waiting(e.cluster), at_cluster(e.cluster);
    for (int ended = 0; ended < warps;) {
        if (ready.empty()) {
            for (const Fibre &one : e.fibres) expect_one_place(e.fibres[0], one);
            fail("all threads wait");
        }
        int warp = chosen_of(ready);
        Fibre *lanes = &e.fibres[(size_t)warp * WARP];
        e.time++;
        for (int lane : of_lanes[e.time % of_lanes.size()]) {
            resume(lanes[lane]);
            e.ended[lanes[lane].rank] += lanes[lane].kind == ENDED;
        }
        for (int i = 1; i < WARP; i++) expect_one_place(lanes[0], lanes[i]);
        const Kind kind = lanes[0].kind;
        if (kind == ENDED) {
            ended++;
            continue;
        }
        if (kind <= SYNC_WARP) {
            pass_barrier(warp * WARP, (warp + 1) * WARP, kind);
            for (int i = 0; i < WARP; i++) lanes[i].answer = answer_of(lanes, i);
            ready.push_back(warp);
            continue;
        }
        const int rank = lanes[0].rank;
        if (++waiting[rank] < of_block) continue;
        int begin = rank, end = rank + 1;
        if (kind == SYNC_CLUSTER) {
            at_cluster[rank] = 1;
            if (std::count(at_cluster.begin(), at_cluster.end(), 1) < e.cluster) continue;
            begin = 0, end = e.cluster;
        }
        pass_barrier((size_t)begin * e.threads, (size_t)end * e.threads, kind);
        for (int block = begin; block < end; block++) waiting[block] = at_cluster[block] = 0;
        for (int w = begin * of_block; w < end * of_block; w++) ready.push_back(w);
    }
}

bool comes_before(const Access &other, const Fibre &own) {
    const uint32 block = block_of(own);
    if (other.block == block) {
        if (other.time < own.after_block) return true;
        if (other.others == OF_BLOCK || other.thread / WARP != (unsigned)own.thread / WARP) return false;
        return other.time < own.after_warp || (!other.others && other.thread == (unsigned)own.thread);
    }
    if (other.block / engine->cluster == block / engine->cluster) return other.time < own.after_cluster;
    auto theirs = engine->tickets.find(other.block), ours = engine->tickets.find(block);
    if (theirs == engine->tickets.end() || ours == engine->tickets.end()) return false;
    return theirs->second.at == ours->second.at && other.time <= theirs->second.time
           && own.fenced > ours->second.time;
}

void expect_no_race(
    const Access &other, const Access &own, const char *does, const char *did, uint32 since
) {
    if (other.time < since || (other.is_atomic && own.is_atomic)) return;
    if (comes_before(other, *engine->now)) return;
    fail("a race: block %d, thread %d %s at {%x} what block %d, thread %d%s %s at {%x}",
         own.block, own.thread, does, own.site, other.block, other.thread,
         other.others ? " and others" : "", did, other.site);
}

// Remember an access, and whether any before it may still be going on.
void keep(Access &place, Access own, uint32 since) {
    if (place.time >= since && place.block == own.block && !comes_before(place, *engine->now)) {
        bool is_of_warp = place.thread / WARP == own.thread / WARP && place.others <= OF_WARP;
        own.others = is_of_warp ? OF_WARP : OF_BLOCK;
    }
    // Its own atomic access does not hide the plain one that the others still race with.
    const bool is_same = place.time >= since && place.block == own.block && place.thread == own.thread;
    if (is_same && !place.others && place.time >= engine->now->after_warp) own.is_atomic &= place.is_atomic;
    place = own;
}

Place &place_of(uintptr_t address, bool is_small) {
    Engine &e = *engine;
    uint64 unit = is_small ? address : address / 4, key = unit / 1024 * 2 + is_small;
    if (key != e.last_key) {
        auto &page = e.pages[key];
        if (!page) page = std::make_unique<Page>();
        e.last_key = key;
        e.last_page = page.get();
    }
    return e.last_page->places[unit % 1024];
}

// Whose shared memory an address is in, -1 if nobody's; shared variables where they are kept.
int owner_of(uintptr_t *address, uint32 site) {
    Engine &e = *engine;
    const uintptr_t at = *address;
    const uintptr_t own = (uintptr_t)__bss_start, kept = (uintptr_t)e.kept.data();
    const uintptr_t arenas = (uintptr_t)e.arenas;
    if (at - own < variables()) {
        *address = kept + e.live * variables() + (at - own);
        return e.live;
    }
    if (at - kept < e.kept.size()) return (int)((at - kept) / variables());
    if (at - arenas >= e.cluster * ARENA) return -1;
    const uintptr_t inside = (at - arenas) % ARENA;
    if (inside < 16 || inside - 16 >= e.shared) fail("beyond the arena, at {%x}", site);
    return (int)((at - arenas) / ARENA);
}

// Memory of the GPU is that of the arrays; the library's own holds constants besides.
void expect_in_array(uintptr_t at, size_t size, bool writes, uint32 site) {
    Engine &e = *engine;
    auto holds = [&](const Array &one) { return one.begin <= at && at + size <= one.end; };
    if (e.array_count && holds(*e.last_array)) return;
    auto after = [](uintptr_t place, const Array &one) { return place < one.begin; };
    const Array *next = std::upper_bound(e.arrays, e.arrays + e.array_count, at, after);
    if (next != e.arrays && holds(next[-1])) {
        e.last_array = next - 1;
        return;
    }
    if (!writes && (uintptr_t)e.base <= at && at < (uintptr_t)_end) return;
    const int64 after_one = next == e.arrays ? -1 : (int64)(at - next[-1].end);
    fail("in no array: block %d, thread %d %s %d bytes, %lld after the end of one, at {%x}",
         block_of(*e.now), e.now->thread, writes ? "writes" : "reads", (int)size, after_one, site);
}

void expect_readable(int owner, const Fibre &own, uint32 site) {
    Engine &e = *engine;
    if (owner == own.rank) return;
    e.read_by_others[owner] = e.time;
    if (own.after_cluster == e.began) fail("block %d may not have begun, at {%x}", owner, site);
    if (e.ended[owner]) fail("block %d may have ended, at {%x}", owner, site);
}

void note(const void *at, size_t size, bool writes, bool is_atomic, void *from) {
    Engine &e = *engine;
    uintptr_t address = (uintptr_t)at;
    if (address - (uintptr_t)e.stacks < e.fibres.size() * STACK) return;
    Fibre &own = *e.now;
    const uint32 site = (uint32)((char *)from - e.base) - 1;
    if (address % std::min<size_t>(size & -size, 16)) fail("%d bytes are not aligned at {%x}", (int)size, site);
    const int owner = owner_of(&address, site);
    if (owner >= 0) {
        expect_readable(owner, own, site);
    } else {
        expect_in_array(address, size, writes, site);
        if (writes) own.has_unfenced = true;
    }
    Access access{e.time, (uint32)block_of(own), site, (unsigned)own.thread, NO_OTHERS, is_atomic};
    const uint32 since = owner >= 0 ? e.began : e.launched;
    const size_t step = std::min<size_t>(size, 4);
    for (size_t i = 0; i < size; i += step) {
        Place &place = place_of(address + i, step < 4);
        if (owner >= 0 && (!writes || is_atomic) && place.write.time < e.began)
            fail("what nobody has written is read at {%x}", site);
        expect_no_race(place.write, access, writes ? "writes" : "reads", "writes", since);
        if (writes) expect_no_race(place.read, access, "writes", "reads", since);
        keep(writes ? place.write : place.read, access, since);
    }
}

template <typename T, typename Change> T change(T *at, void *from, Change changed) {
    note(at, sizeof(T), true, true, from);
    T before = *at;
    *at = changed(before);
    return before;
}

template <typename T> T fresh(const T *at, void *from) {
    note(at, sizeof(T), false, true, from);
    return *at;
}

}  // namespace

#define CALLER __builtin_return_address(0)

int block_index() { return block_of(*engine->now); }
int thread_index() { return engine->now->thread; }
int thread_count() { return engine->threads; }
int cluster_size() { return engine->cluster; }
int cluster_rank() { return engine->now->rank; }

#define MEET(kind, given) meet(kind, given, 0, file, line)
void sync_threads(const char *file, int line) { MEET(SYNC_THREADS, 0); }
void sync_cluster(const char *file, int line) { MEET(SYNC_CLUSTER, 0); }
void sync_warp(const char *file, int line) { MEET(SYNC_WARP, 0); }
uint32 warp_ballot(bool is, const char *file, int line) { return (uint32)MEET(BALLOT, is); }
uint32 warp_min(uint32 value, const char *file, int line) { return (uint32)MEET(LEAST, value); }
uint32 warp_max(uint32 value, const char *file, int line) { return (uint32)MEET(MOST, value); }
uint32 warp_add(uint32 value, const char *file, int line) { return (uint32)MEET(SUM, value); }
uint32 warp_match(uint32 value, const char *file, int line) { return (uint32)MEET(MATCH, value); }
uint64 warp_get(uint64 value, int lane, const char *file, int line) {
    return meet(GET, value, lane, file, line);
}
uint32 warp_get(uint32 value, int lane, const char *file, int line) {
    return (uint32)meet(GET, value, lane, file, line);
}
double warp_get(double value, int lane, const char *file, int line) {
    uint64 bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = meet(GET, bits, lane, file, line);
    std::memcpy(&value, &bits, sizeof bits);
    return value;
}

#define CHANGE(at, expression) change(at, CALLER, [&](auto old) { return expression; })
void add_to(uint32 *to, uint32 value) { CHANGE(to, old + value); }
void add_to(uint64 *to, uint64 value) { CHANGE(to, old + value); }
void raise_to(uint32 *of, uint32 value) { CHANGE(of, std::max(old, value)); }
void lower_to(uint32 *of, uint32 value) { CHANGE(of, std::min(old, value)); }
void set_bits(uint32 *of, uint32 bits) { CHANGE(of, old | bits); }
uint32 take(uint32 *from, uint32 count) { return CHANGE(from, old + count); }
uint32 read_fresh(const uint32 *from) { return fresh(from, CALLER); }
uint64 read_fresh(const uint64 *from) { return fresh(from, CALLER); }

void before_ticket() {
    engine->now->fenced = engine->time;
    engine->now->has_unfenced = false;
}

uint32 take_ticket(uint32 *from) {
    Engine &e = *engine;
    for (const Fibre &one : e.fibres) {
        if (one.rank == e.now->rank && one.has_unfenced)
            fail("thread %d has written what a ticket does not cover", one.thread);
    }
    e.tickets[block_of(*e.now)] = {from, e.time};
    uint32 before = CHANGE(from, old + 1);
    e.now->has_unfenced = false;
    return before;
}

const void *in_block_at(const void *own, int rank) {
    uintptr_t address = (uintptr_t)own;
    const int owner = owner_of(&address, 0);
    if (owner != engine->now->rank || rank < 0 || rank >= engine->cluster) fail("in_block(%d)", rank);
    if (address != (uintptr_t)own)  // a shared variable
        return rank == owner ? own : &engine->kept[address - (uintptr_t)engine->kept.data()] + (rank - owner) * (int64)variables();
    return (const char *)own + (rank - owner) * (int64)ARENA;
}

extern "C" {

#define ACCESS(name, size, writes)                                                                 \
    void __tsan_##name##size(void *at) { note(at, size, writes, false, CALLER); }
#define ACCESSES(name, writes)                                                                     \
    ACCESS(name, 1, writes) ACCESS(name, 2, writes) ACCESS(name, 4, writes)                        \
    ACCESS(name, 8, writes) ACCESS(name, 16, writes)
ACCESSES(read, false)
ACCESSES(write, true)
ACCESSES(unaligned_read, false)
ACCESSES(unaligned_write, true)
void __tsan_read_range(void *at, size_t size) { note(at, size, false, false, CALLER); }
void __tsan_write_range(void *at, size_t size) { note(at, size, true, false, CALLER); }
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}

// Run a kernel in so many blocks. Return what is wrong with it, or nothing.
const char *run(void *kernel, int64 *wholes, double *reals, const Array *arrays, int array_count,
                int grid, int threads, int cluster, int64 shared, uint32 order) {
    if (!engine) {
        engine = new Engine;
        Dl_info found;
        dladdr((void *)run, &found);
        engine->base = (char *)found.dli_fbase;
    }
    Engine &e = *engine;
    if (_setjmp(e.launcher)) {  // those that have not ended begin anew next time
        for (Fibre &one : e.fibres) one.has_begun = false;
        return e.message;
    }
    if (threads % WARP || threads > MOST_THREADS || grid % cluster || shared + 4112 > (int64)ARENA)
        fail("%d blocks of %d threads in clusters of %d with %lld bytes", grid, threads, cluster, shared);
    e.kernel = kernel;
    e.wholes = wholes;
    e.reals = reals;
    e.arrays = e.last_array = arrays;
    e.array_count = array_count;
    e.threads = threads;
    e.cluster = cluster;
    e.shared = (size_t)shared;
    e.order = (Order)order;
    e.chance.seed(order);
    e.pages.clear();
    e.tickets.clear();
    e.last_key = ~0ull;
    e.launched = ++e.time;
    for (int first : ordered(grid / cluster)) {
        e.first_block = first * cluster;
        run_cluster();
    }
    return nullptr;
}
}
