/* SPDX-License-Identifier: AGPL-3.0-only */
/* Chained hash table whose nodes also hang in one list in insertion order. Chains instead of open
 * addressing: values are removed while others are being walked, and a node never moves. */
#include "base/map.h"

#include "base/list.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct node {
    struct node *chain;
    struct chp_list order;
    uint64_t hash;
    void *value;
    size_t key_len;
    uint8_t key[];
};

struct chp_map {
    struct node **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
    uint64_t seed;
    struct chp_list order;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_of(uint64_t seed, struct chp_bytes key)
{
    uint64_t hash = seed ^ 0x9e3779b97f4a7c15u ^ key.len;
    size_t i = 0;
    for (; i + 8 <= key.len; i += 8) {
        uint64_t word;
        memcpy(&word, key.data + i, 8);
        hash = mix(hash ^ word, 0xd6e8feb86659fd93u ^ seed);
    }
    uint64_t tail = 0;
    if (key.len > i) {
        memcpy(&tail, key.data + i, key.len - i);
    }
    return mix(hash ^ tail, 0xa0761d6478bd642fu ^ (seed << 1));
}

struct chp_map *chp_map_new(uint64_t seed)
{
    struct chp_map *map = chp_alloc(sizeof *map);
    map->bucket_count = 16;
    map->buckets = chp_calloc(map->bucket_count, sizeof(struct node *));
    map->seed = seed;
    chp_list_init(&map->order);
    return map;
}

void chp_map_free(struct chp_map *map)
{
    if (map == NULL) {
        return;
    }
    CHP_LIST_FOREACH_SAFE(&map->order, link, following)
    {
        free(CHP_CONTAINER(link, struct node, order));
    }
    free(map->buckets);
    free(map);
}

size_t chp_map_count(const struct chp_map *map)
{
    return map->count;
}

/* Where the pointer to the node of key is, or would be. */
static struct node **find(const struct chp_map *map, struct chp_bytes key, uint64_t hash)
{
    struct node **place = &map->buckets[hash & (map->bucket_count - 1)];
    while (*place != NULL) {
        struct node *node = *place;
        if (node->hash == hash && node->key_len == key.len &&
            (key.len == 0 || memcmp(node->key, key.data, key.len) == 0)) {
            return place;
        }
        place = &node->chain;
    }
    return place;
}

void *chp_map_get(const struct chp_map *map, struct chp_bytes key)
{
    struct node *node = *find(map, key, hash_of(map->seed, key));
    return node == NULL ? NULL : node->value;
}

static void grow(struct chp_map *map)
{
    size_t bucket_count = map->bucket_count * 2;
    struct node **buckets = chp_calloc(bucket_count, sizeof(struct node *));
    CHP_LIST_FOREACH_SAFE(&map->order, link, following)
    {
        struct node *node = CHP_CONTAINER(link, struct node, order);
        struct node **place = &buckets[node->hash & (bucket_count - 1)];
        node->chain = *place;
        *place = node;
    }
    free(map->buckets);
    map->buckets = buckets;
    map->bucket_count = bucket_count;
}

void *chp_map_put(struct chp_map *map, struct chp_bytes key, void *value)
{
    CHP_ASSERT(value != NULL);
    uint64_t hash = hash_of(map->seed, key);
    struct node **place = find(map, key, hash);
    if (*place != NULL) {
        void *old = (*place)->value;
        (*place)->value = value;
        return old;
    }
    struct node *node = chp_alloc(sizeof *node + key.len);
    node->hash = hash;
    node->value = value;
    node->key_len = key.len;
    if (key.len > 0) {
        memcpy(node->key, key.data, key.len);
    }
    *place = node;
    chp_list_append(&map->order, &node->order);
    if (++map->count > map->bucket_count) {
        grow(map);
    }
    return NULL;
}

void *chp_map_remove(struct chp_map *map, struct chp_bytes key)
{
    struct node **place = find(map, key, hash_of(map->seed, key));
    struct node *node = *place;
    if (node == NULL) {
        return NULL;
    }
    void *value = node->value;
    *place = node->chain;
    chp_list_remove(&node->order);
    free(node);
    map->count--;
    return value;
}

void *chp_map_next(const struct chp_map *map, const void **cursor, struct chp_bytes *key)
{
    /* The cursor is the next node to give, prepared one ahead so that the current one may go. */
    const struct chp_list *link = *cursor == NULL ? map->order.next : *cursor;
    if (link == &map->order) {
        return NULL;
    }
    struct node *node = CHP_CONTAINER(link, struct node, order);
    *cursor = link->next;
    if (key != NULL) {
        *key = chp_bytes(node->key, node->key_len);
    }
    return node->value;
}
