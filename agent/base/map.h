/* SPDX-License-Identifier: AGPL-3.0-only */
/* Hash map from byte strings (copied) to pointers (borrowed). Seeded, so that keys cannot be chosen
 * to collide; iteration is in insertion order, so that what depends on it is repeatable. */
#ifndef CHP_BASE_MAP_H
#define CHP_BASE_MAP_H

#include "base/buf.h"

struct chp_map;

struct chp_map *chp_map_new(uint64_t seed);
/* The values are the caller's. NULL is allowed. */
void chp_map_free(struct chp_map *map);
size_t chp_map_count(const struct chp_map *map);
void *chp_map_get(const struct chp_map *map, struct chp_bytes key);
/* Returns the value that was there before, or NULL. value must not be NULL. */
void *chp_map_put(struct chp_map *map, struct chp_bytes key, void *value);
/* Returns the value that was there, or NULL. */
void *chp_map_remove(struct chp_map *map, struct chp_bytes key);
/* Steps through the values: start with *cursor = NULL; NULL at the end. The value just returned may
 * be removed before the next step, others not. */
void *chp_map_next(const struct chp_map *map, const void **cursor, struct chp_bytes *key);

#endif
