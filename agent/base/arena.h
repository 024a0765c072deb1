/* SPDX-License-Identifier: AGPL-3.0-only */
/* A bump allocator: everything taken from it dies with it. One per inbound message, one per batch.
 */
#ifndef CHP_BASE_ARENA_H
#define CHP_BASE_ARENA_H

#include "base/buf.h"

struct chp_arena_chunk;

/* Zero-initialise; chp_arena_deinit is safe on a zeroed one. */
struct chp_arena {
    struct chp_arena_chunk *chunks;
    size_t bytes; /* taken so far, for bounds */
};

void chp_arena_deinit(struct chp_arena *arena);
/* Zeroed, aligned for any object. Never NULL. */
void *chp_arena_alloc(struct chp_arena *arena, size_t size);
void *chp_arena_calloc(struct chp_arena *arena, size_t count, size_t size);
/* Copies; NULL stays NULL. */
char *chp_arena_strdup(struct chp_arena *arena, const char *text);
/* Copies len bytes and adds a NUL. */
char *chp_arena_strndup(struct chp_arena *arena, const void *data, size_t len);
/* Copies a list of strings; NULL when count is 0. */
const char **chp_arena_strdup_all(struct chp_arena *arena, const char *const *texts, size_t count);
struct chp_bytes chp_arena_bytes(struct chp_arena *arena, struct chp_bytes bytes);
char *chp_arena_printf(struct chp_arena *arena, const char *format, ...) CHP_PRINTF(2, 3);

#endif
