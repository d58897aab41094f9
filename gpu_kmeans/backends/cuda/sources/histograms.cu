// The distinct colours of opaque pictures, in Morton order: see `histograms.py`.
//
// Which of the 2^24 colours occur is a bit each. The bits of 32 colours and the rank of the first
// of them lie side by side, so that a pixel finds its colour's rank by one look: 4 MB, which stay
// in the cache. `mark` sets the bits, `count_marks` and `rank_colors` turn them to ranks and write
// the colours, `rank_pixels` gives every pixel its rank and counts.

#define PIXELS_OF_BLOCK 2048
#define WORDS (1 << 19)  // of 32 colours
#define WORDS_OF_BLOCK 4096
#define BLOCKS (WORDS / WORDS_OF_BLOCK)

enum Column { PIXELS, SIZE, INVERSE, COLORS, COUNTS, FIRST_BLOCK };  // of pictures

// Put two zero bits before each of eight: 0b111 becomes 0b001001001.
DEVICE uint32 spread(uint32 level) {
    level = (level | level << 8) & 0x00f00f;
    level = (level | level << 4) & 0x0c30c3;
    return (level | level << 2) & 0x249249;
}

// Undo that.
DEVICE uint32 gather(uint32 code) {
    code &= 0x249249;
    code = (code | code >> 2) & 0x0c30c3;
    code = (code | code >> 4) & 0x00f00f;
    return (code | code >> 8) & 0xff;
}

DEVICE uint32 code_of(const uint8 *pixel) {
    return spread(pixel[0]) << 2 | spread(pixel[1]) << 1 | spread(pixel[2]);
}

KERNEL(256) mark(
    const int64 *columns, int pictures,
    uint32 *words  // (pictures, WORDS, 2): zeros; bits and ranks: the bits are set
) {
    Table all = {columns, pictures};
    int p = owner_of(all, FIRST_BLOCK, block_index());
    const uint8 *pixels = (const uint8 *)told(all, PIXELS, p);
    int64 begin = (block_index() - told(all, FIRST_BLOCK, p)) * PIXELS_OF_BLOCK;
    int64 n = told(all, SIZE, p);
    uint32 *own = words + (int64)p * 2 * WORDS;
    for (int at = warp_index() * WARP; at < PIXELS_OF_BLOCK; at += warp_count() * WARP) {
        int64 i = begin + at + lane_index();
        uint32 code = i < n ? code_of(pixels + 3 * i) : ~0u;
        uint32 before = warp_get(code, lane_index() ? lane_index() - 1 : 0);
        bool is_first = lane_index() == 0 || code != before;  // areas of one colour set it seldom
        if (i >= n || !is_first) continue;
        uint32 *word = own + code / 32 * 2, bit = 1u << code % 32;
        if (!(read_fresh(word) & bit)) set_bits(word, bit);
    }
}

KERNEL(256) count_marks(
    const uint32 *words,
    uint32 *marks  // (pictures, BLOCKS), written: how many bits are set in each block of words
) {
    const uint32 *own = words + (int64)block_index() * 2 * WORDS_OF_BLOCK;
    uint32 count = 0, all;
    FOR_THREADS(word, WORDS_OF_BLOCK) count += count_bits(own[2 * word]);
    sum_before(count, &all);
    if (thread_index() == 0) marks[block_index()] = all;
}

KERNEL(256) rank_colors(
    const int64 *columns, int pictures,
    const uint32 *marks,
    uint32 *words,  // the ranks are written
    int64 *totals  // (pictures,), written: how many colours there are
) {
    Table all = {columns, pictures};
    int p = block_index() / BLOCKS, block = block_index() % BLOCKS;
    uint8 *colors = (uint8 *)told(all, COLORS, p);
    uint64 *counts = (uint64 *)told(all, COUNTS, p);
    uint32 *own = words + (int64)block_index() * 2 * WORDS_OF_BLOCK;
    uint32 before = 0, base, found;
    FOR_THREADS(other, block) before += marks[p * BLOCKS + other];
    sum_before(before, &base);
    for (int at = 0; at < WORDS_OF_BLOCK; at += thread_count()) {
        int word = at + thread_index();
        uint32 bits = own[2 * word];
        uint32 rank = base + sum_before(count_bits(bits), &found);
        own[2 * word + 1] = rank;
        base += found;
        // The lanes write the colours of one word after the other, side by side.
        for (uint32 rest = warp_ballot(bits != 0); rest; rest &= rest - 1) {
            int lane = first_bit(rest);
            uint32 those = warp_get(bits, lane), first = warp_get(rank, lane);
            uint32 code = (uint32)(block * WORDS_OF_BLOCK + at + warp_index() * WARP + lane) * 32;
            for (int bit = lane_index(); bit < 32; bit += WARP) {
                if (!(those >> bit & 1)) continue;
                uint32 to = first + count_bits(those & ((1u << bit) - 1));
                colors[3ll * to] = (uint8)gather((code + bit) >> 2);
                colors[3ll * to + 1] = (uint8)gather((code + bit) >> 1);
                colors[3ll * to + 2] = (uint8)gather(code + bit);
                counts[to] = 0;
            }
        }
    }
    if (thread_index() == 0 && block == BLOCKS - 1) totals[p] = base;
}

KERNEL(256) rank_pixels(const int64 *columns, int pictures, const uint32 *words) {
    Table all = {columns, pictures};
    int p = owner_of(all, FIRST_BLOCK, block_index());
    const uint8 *pixels = (const uint8 *)told(all, PIXELS, p);
    uint32 *inverse = (uint32 *)told(all, INVERSE, p);
    uint64 *counts = (uint64 *)told(all, COUNTS, p);
    int64 begin = (block_index() - told(all, FIRST_BLOCK, p)) * PIXELS_OF_BLOCK;
    int64 n = told(all, SIZE, p);
    const uint32 *own = words + (int64)p * 2 * WORDS;
    for (int at = warp_index() * WARP; at < PIXELS_OF_BLOCK; at += warp_count() * WARP) {
        int64 i = begin + at + lane_index();
        uint32 rank = ~0u;
        if (i < n) {
            uint32 code = code_of(pixels + 3 * i), bits = own[code / 32 * 2];
            rank = own[code / 32 * 2 + 1] + count_bits(bits & ((1u << code % 32) - 1));
            inverse[i] = rank;
        }
        uint32 same = warp_match(rank);
        if (i < n && first_bit(same) == lane_index()) {
            add_to(&counts[rank], (uint64)count_bits(same));
        }
    }
}
