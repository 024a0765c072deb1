/* SPDX-License-Identifier: AGPL-3.0-only */
/* Arena, list, map, memory. */
#include "test_base.h"

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void arena_gives_zeroed_aligned_memory_that_stays(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    uint8_t *kept[200];
    for (size_t i = 0; i < 200; i++) {
        size_t size = i * 37 + 1; /* over a chunk in the end */
        kept[i] = chp_arena_alloc(&arena, size);
        assert_int_equal((uintptr_t)kept[i] % 16, 0);
        for (size_t j = 0; j < size; j++) {
            assert_int_equal(kept[i][j], 0);
        }
        memset(kept[i], (int)i, size);
    }
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(kept[i][0], (uint8_t)i);
        assert_int_equal(kept[i][i * 37], (uint8_t)i);
    }
    assert_true(arena.bytes >= 200 * 199 / 2 * 37);
    chp_arena_deinit(&arena);
    assert_null(arena.chunks);
    chp_arena_deinit(&arena);
}

static void arena_copies_text_and_bytes(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    assert_null(chp_arena_strdup(&arena, NULL));
    assert_string_equal(chp_arena_strdup(&arena, "abc"), "abc");
    assert_string_equal(chp_arena_strndup(&arena, "abc", 2), "ab");
    assert_string_equal(chp_arena_printf(&arena, "%s-%d", "x", 7), "x-7");
    struct chp_bytes bytes = chp_arena_bytes(&arena, chp_bytes("a\0b", 3));
    assert_true(chp_bytes_equal(bytes, chp_bytes("a\0b", 3)));
    assert_null(chp_arena_bytes(&arena, chp_bytes(NULL, 0)).data);
    char *big = chp_arena_printf(&arena, "%0*d", 10000, 1);
    assert_int_equal(strlen(big), 10000);
    chp_arena_deinit(&arena);
}

struct entry {
    int number;
    struct chp_list link;
};

static void list_keeps_order_and_survives_removal_while_walked(void **state)
{
    (void)state;
    struct chp_list list;
    struct entry entries[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    chp_list_init(&list);
    assert_true(chp_list_empty(&list));
    assert_null(chp_list_first(&list));
    for (int i = 1; i < 4; i++) {
        chp_list_append(&list, &entries[i].link);
    }
    chp_list_prepend(&list, &entries[0].link);
    int expected = 0;
    CHP_LIST_FOREACH_SAFE(&list, link, following)
    {
        struct entry *entry = CHP_CONTAINER(link, struct entry, link);
        assert_int_equal(entry->number, expected++);
        if (entry->number % 2 == 0) {
            chp_list_remove(link);
        }
    }
    assert_int_equal(expected, 4);
    assert_ptr_equal(chp_list_first(&list), &entries[1].link);
    chp_list_remove(&entries[0].link); /* is in no list any more */
    chp_list_remove(&entries[1].link);
    chp_list_remove(&entries[3].link);
    assert_true(chp_list_empty(&list));
}

static void map_finds_replaces_and_removes(void **state)
{
    (void)state;
    struct chp_map *map = chp_map_new(42);
    int values[1000];
    char key[16];
    for (int i = 0; i < 1000; i++) {
        int len = snprintf(key, sizeof key, "key-%d", i);
        assert_null(chp_map_put(map, chp_bytes(key, (size_t)len), &values[i]));
    }
    assert_int_equal(chp_map_count(map), 1000);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        assert_ptr_equal(chp_map_get(map, chp_bytes_of(key)), &values[i]);
    }
    assert_null(chp_map_get(map, chp_bytes_of("key-1000")));
    assert_null(chp_map_get(map, chp_bytes_of("")));
    assert_ptr_equal(chp_map_put(map, chp_bytes_of("key-7"), &values[8]), &values[7]);
    assert_int_equal(chp_map_count(map), 1000);
    assert_ptr_equal(chp_map_remove(map, chp_bytes_of("key-7")), &values[8]);
    assert_null(chp_map_remove(map, chp_bytes_of("key-7")));
    assert_null(chp_map_get(map, chp_bytes_of("key-7")));
    assert_int_equal(chp_map_count(map), 999);
    chp_map_free(map);
    chp_map_free(NULL);
}

static void map_keys_are_bytes(void **state)
{
    (void)state;
    struct chp_map *map = chp_map_new(1);
    int a = 0;
    int b = 0;
    (void)chp_map_put(map, chp_bytes("x\0y", 3), &a);
    (void)chp_map_put(map, chp_bytes("x\0z", 3), &b);
    (void)chp_map_put(map, chp_bytes(NULL, 0), &b);
    assert_ptr_equal(chp_map_get(map, chp_bytes("x\0y", 3)), &a);
    assert_ptr_equal(chp_map_get(map, chp_bytes("x\0z", 3)), &b);
    assert_ptr_equal(chp_map_get(map, chp_bytes_of("")), &b);
    chp_map_free(map);
}

static void map_walks_in_insertion_order_and_allows_removal(void **state)
{
    (void)state;
    struct chp_map *map = chp_map_new(7);
    int values[64];
    for (int i = 0; i < 64; i++) {
        values[i] = i;
        (void)chp_map_put(map, chp_bytes(&values[i], sizeof values[i]), &values[i]);
    }
    const void *cursor = NULL;
    struct chp_bytes key;
    int expected = 0;
    for (int *value = chp_map_next(map, &cursor, &key); value != NULL;
         value = chp_map_next(map, &cursor, &key)) {
        assert_int_equal(*value, expected++);
        if (*value % 3 == 0) {
            assert_ptr_equal(chp_map_remove(map, key), value);
        }
    }
    assert_int_equal(expected, 64);
    assert_int_equal(chp_map_count(map), 42);
    chp_map_free(map);
}

static void memory_is_zeroed_and_copies_are_exact(void **state)
{
    (void)state;
    char *memory = chp_calloc(3, 5);
    assert_memory_equal(memory, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 15);
    memory = chp_realloc(memory, 4000);
    free(memory);
    free(chp_alloc(0));
    assert_null(chp_strdup(NULL));
    char *text = chp_strdup("abc");
    assert_string_equal(text, "abc");
    free(text);
    free(chp_memdup("", 0));
}

int run_container_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_gives_zeroed_aligned_memory_that_stays),
        cmocka_unit_test(arena_copies_text_and_bytes),
        cmocka_unit_test(list_keeps_order_and_survives_removal_while_walked),
        cmocka_unit_test(map_finds_replaces_and_removes),
        cmocka_unit_test(map_keys_are_bytes),
        cmocka_unit_test(map_walks_in_insertion_order_and_allows_removal),
        cmocka_unit_test(memory_is_zeroed_and_copies_are_exact),
    };
    return cmocka_run_group_tests_name("containers", tests, NULL, NULL);
}
