/* SPDX-License-Identifier: AGPL-3.0-only */
/* Binary arrays byte by byte, the dsn's rule, parameters of queries. */
#include "store/pg_conn.h"
#include "store/pg_store.h"
#include "store/pg_value.h"
#include "store/query_params.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void columns_are_binary_arrays(void **state)
{
    (void)state;
    struct pg_columns columns = {0};
    const char *values[PG_COLUMNS_MAX];
    int lengths[PG_COLUMNS_MAX];
    int formats[PG_COLUMNS_MAX];
    pg__add_text(&columns, "ab");
    pg__add_u64(&columns, 258);
    pg__row_end(&columns);
    pg__add_text(&columns, NULL);
    pg__add_u64(&columns, 1);
    pg__row_end(&columns);
    pg__columns_params(&columns, values, lengths, formats);
    static const uint8_t text[] = {0, 0, 0, 1, 0, 0, 0, 1, 0, 0,   0,   25,   0,    0,    0,
                                   2, 0, 0, 0, 1, 0, 0, 0, 2, 'a', 'b', 0xff, 0xff, 0xff, 0xff};
    static const uint8_t number[] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0,
                                     2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0,  0, 0, 0,
                                     1, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0,  0, 1};
    assert_int_equal(lengths[0], sizeof text);
    assert_memory_equal(values[0], text, sizeof text);
    assert_int_equal(lengths[1], sizeof number);
    assert_memory_equal(values[1], number, sizeof number);
    assert_int_equal(formats[0], 1);
    assert_int_equal(columns.error.code, 0);
    pg__add_text(&columns, "");
    pg__add_u64(&columns, (uint64_t)INT64_MAX + 1);
    assert_int_equal(columns.error.code, CHP_EINVAL);
    pg__columns_deinit(&columns);
}

/* The only element of a column of one row. */
static void assert_element(struct pg_columns *columns, const char *expected)
{
    const struct chp_buf *elements = &columns->columns[0].elements;
    pg__row_end(columns);
    assert_int_equal(elements->len, 24 + strlen(expected));
    assert_memory_equal(elements->data + 24, expected, strlen(expected));
    pg__columns_deinit(columns);
}

static void lists_become_text(void **state)
{
    (void)state;
    struct pg_columns columns = {0};
    const char *names[] = {"Nantes", "a\"b\\c", "", "{,}"};
    pg__add_names(&columns, names, 4);
    assert_element(&columns, "{\"Nantes\",\"a\\\"b\\\\c\",\"\",\"{,}\"}");
    pg__add_names(&columns, NULL, 0);
    assert_element(&columns, "{}");
    struct chp_dot dots[] = {{"Nantes", 7, 12}, {"R\"", 1, INT64_MAX}};
    pg__add_vector(&columns, &(struct chp_vector){dots, 2});
    assert_element(&columns, "[[\"Nantes\",7,12],[\"R\\\"\",1,9223372036854775807]]");
    pg__add_vector(&columns, &(struct chp_vector){NULL, 0});
    assert_element(&columns, "[]");
    struct chp_file file = {.name = "a.yml", .size = 3};
    pg__add_files(&columns, &file, 1);
    assert_element(
        &columns, "[{\"name\":\"a.yml\","
                  "\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\","
                  "\"size\":3}]");
    dots[0].origin = "\xff";
    pg__add_vector(&columns, &(struct chp_vector){dots, 1});
    assert_int_equal(columns.error.code, CHP_EINVAL);
    pg__columns_deinit(&columns);
}

static void a_dsn_must_not_need_a_resolver(void **state)
{
    (void)state;
    static const struct {
        const char *dsn;
        bool fine;
    } cases[] = {
        {"", true},
        {"dbname=x", true},
        {"host=/run/postgresql dbname=x", true},
        {"host=@abstract", true},
        {"host=127.0.0.1", true},
        {"host=::1", true},
        {"postgresql://user:secret@127.0.0.1:5433/x", true},
        {"postgresql://user@[::1]/x", true},
        {"postgresql:///x?host=/run/postgresql", true},
        {"host=db.example hostaddr=10.0.0.1", true},
        {"host=127.0.0.1,/run", true},
        {"host=localhost", false},
        {"host=127.0.0.1,localhost", false},
        {"postgresql://db.example/x", false},
        {"service=x", false},
        {"host", false},
        {"nonsense=1", false},
        {"password='secret", false},
    };
    (void)unsetenv("PGHOST");
    (void)unsetenv("PGHOSTADDR");
    (void)unsetenv("PGSERVICE");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chp_error error = {0};
        int code = pg__dsn_check(cases[i].dsn, &error);
        if (code != (cases[i].fine ? 0 : CHP_EINVAL)) {
            fail_msg("'%s': %d %s", cases[i].dsn, code, error.text);
        }
        assert_null(strstr(error.text, "secret"));
    }
    (void)setenv("PGHOST", "db.example", 1);
    struct chp_error error = {0};
    assert_int_equal(pg__dsn_check("dbname=x", &error), CHP_EINVAL);
    assert_int_equal(pg__dsn_check("host=/run", &error), 0);
    (void)unsetenv("PGHOST");
    struct chp_pg_config config = {.dsn = "host=localhost"};
    assert_null(chp_pg_store_new(&config, &(struct chp_store_callbacks){0}, &error));
    assert_non_null(strstr(error.text, "localhost"));
}

static void defaults_of_queries(void **state)
{
    (void)state;
    struct query_params params;
    struct chp_error error = {0};
    assert_int_equal(query__params_init(&params, CHP_QUERY_EVENTS, NULL, 0, &error), 0);
    assert_int_equal(params.count, 2);
    assert_string_equal(params.values[0], "0");
    assert_string_equal(params.values[1], "100");
    query__params_deinit(&params);
    const char *given[] = {NULL, "failed", NULL, "7"};
    assert_int_equal(query__params_init(&params, CHP_QUERY_OPERATIONS, given, 4, &error), 0);
    assert_string_equal(params.values[0], "");
    assert_string_equal(params.values[3], "7");
    query__params_deinit(&params);
    given[1] = "fail";
    assert_int_equal(query__params_init(&params, CHP_QUERY_OPERATIONS, given, 4, &error),
                     CHP_EINVAL);
    assert_non_null(strstr(error.text, "in-doubt"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_binary_arrays),
        cmocka_unit_test(lists_become_text),
        cmocka_unit_test(a_dsn_must_not_need_a_resolver),
        cmocka_unit_test(defaults_of_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
