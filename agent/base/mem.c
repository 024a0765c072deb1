/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void out_of_memory(size_t size)
{
    (void)fprintf(stderr, "level=fatal msg=\"out of memory\" bytes=%zu\n", size);
    abort();
}

void *chp_alloc(size_t size)
{
    return chp_calloc(1, size);
}

void *chp_calloc(size_t count, size_t size)
{
    void *memory = calloc(count == 0 ? 1 : count, size == 0 ? 1 : size);
    if (memory == NULL) {
        out_of_memory(count * size);
    }
    return memory;
}

void *chp_realloc(void *memory, size_t size)
{
    void *grown = realloc(memory, size == 0 ? 1 : size);
    if (grown == NULL) {
        out_of_memory(size);
    }
    return grown;
}

char *chp_strdup(const char *text)
{
    return text == NULL ? NULL : chp_memdup(text, strlen(text) + 1);
}

void *chp_memdup(const void *data, size_t size)
{
    void *copy = chp_alloc(size);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}
