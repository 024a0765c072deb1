/* SPDX-License-Identifier: AGPL-3.0-only */
/* Allocation that does not fail: being out of memory logs and aborts (sizes are bounded by the
 * callers). */
#ifndef CHP_BASE_MEM_H
#define CHP_BASE_MEM_H

#include <stddef.h>

/* Zeroed memory, released with free(). size 0 gives a valid pointer. */
void *chp_alloc(size_t size) __attribute__((malloc));
void *chp_calloc(size_t count, size_t size) __attribute__((malloc));
/* Grows or shrinks; new bytes are not zeroed. */
void *chp_realloc(void *memory, size_t size);
/* Copies; NULL stays NULL. Released with free(). */
char *chp_strdup(const char *text);
void *chp_memdup(const void *data, size_t size);

#endif
