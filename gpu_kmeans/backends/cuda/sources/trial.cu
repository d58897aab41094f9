// Whether anything compiles and runs at all, see `program.available`.

// Write the number of every thread, 32 to a block.
KERNEL(32) name_threads(int *names /* (blocks, 32), written */) {
    FOR_THREADS(i, 32) names[block_index() * 32 + i] = block_index() * 32 + i;
}
