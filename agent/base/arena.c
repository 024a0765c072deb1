/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/arena.h"

#include "base/mem.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Chunks grow with the arena: thousands of small ones live at a time, and a batch takes megabytes.
 */
enum { CHUNK_MIN_BYTES = 512, CHUNK_MAX_BYTES = 65536 };

struct chp_arena_chunk {
    struct chp_arena_chunk *next;
    size_t used;
    size_t cap;
    alignas(max_align_t) uint8_t data[];
};

void chp_arena_deinit(struct chp_arena *arena)
{
    struct chp_arena_chunk *chunk = arena->chunks;
    while (chunk != NULL) {
        struct chp_arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    *arena = (struct chp_arena){0};
}

void *chp_arena_alloc(struct chp_arena *arena, size_t size)
{
    CHP_ASSERT(size < SIZE_MAX / 2);
    size_t need = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    struct chp_arena_chunk *chunk = arena->chunks;
    if (chunk == NULL || chunk->cap - chunk->used < need) {
        size_t usual = arena->bytes < CHUNK_MIN_BYTES   ? CHUNK_MIN_BYTES
                       : arena->bytes > CHUNK_MAX_BYTES ? CHUNK_MAX_BYTES
                                                        : arena->bytes;
        size_t cap = need > usual ? need : usual;
        chunk = chp_alloc(sizeof *chunk + cap);
        chunk->cap = cap;
        /* A chunk of one big object goes behind the current one, which still has room. */
        if (need > usual && arena->chunks != NULL) {
            chunk->next = arena->chunks->next;
            arena->chunks->next = chunk;
        } else {
            chunk->next = arena->chunks;
            arena->chunks = chunk;
        }
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += need;
    arena->bytes += need;
    return memory;
}

void *chp_arena_calloc(struct chp_arena *arena, size_t count, size_t size)
{
    CHP_ASSERT(size == 0 || count < SIZE_MAX / 2 / size);
    return chp_arena_alloc(arena, count * size);
}

char *chp_arena_strdup(struct chp_arena *arena, const char *text)
{
    return text == NULL ? NULL : chp_arena_strndup(arena, text, strlen(text));
}

char *chp_arena_strndup(struct chp_arena *arena, const void *data, size_t len)
{
    char *copy = chp_arena_alloc(arena, len + 1);
    if (len > 0) {
        memcpy(copy, data, len);
    }
    return copy;
}

const char **chp_arena_strdup_all(struct chp_arena *arena, const char *const *texts, size_t count)
{
    const char **copies = count == 0 ? NULL : chp_arena_calloc(arena, count, sizeof *copies);
    for (size_t i = 0; i < count; i++) {
        copies[i] = chp_arena_strdup(arena, texts[i]);
    }
    return copies;
}

struct chp_bytes chp_arena_bytes(struct chp_arena *arena, struct chp_bytes bytes)
{
    if (bytes.data == NULL) {
        return bytes;
    }
    return chp_bytes(chp_arena_strndup(arena, bytes.data, bytes.len), bytes.len);
}

char *chp_arena_printf(struct chp_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHP_ASSERT(need >= 0);
    char *text = chp_arena_alloc(arena, (size_t)need + 1);
    (void)vsnprintf(text, (size_t)need + 1, format, again);
    va_end(again);
    return text;
}
