/* SPDX-License-Identifier: AGPL-3.0-only */
/* The contract of port/store.h as tests that know nothing of the implementation. */
#ifndef CHP_TESTS_STORE_SUITE_H
#define CHP_TESTS_STORE_SUITE_H

#include "port/store.h"
#include "wire/payload.h"
#include "wire/wire.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* An empty store that is up. */
struct suite {
    struct chp_store *store;
    void (*turn)(struct suite *suite); /* lets it work */
    void *user;                        /* of the implementation's runner */
    unsigned ups;
    unsigned downs;
    struct chp_error down_error;
    struct chp_arena arena; /* of what the test builds */
};

extern const struct CMUnitTest suite_tests[];
extern const size_t suite_test_count;
extern const struct CMUnitTest suite_answer_tests[];
extern const size_t suite_answer_test_count;
extern const struct CMUnitTest suite_history_tests[];
extern const size_t suite_history_test_count;
extern const struct CMUnitTest suite_life_tests[];
extern const size_t suite_life_test_count;
extern const struct CMUnitTest suite_reply_tests[];
extern const size_t suite_reply_test_count;
extern const struct CMUnitTest suite_forget_tests[];
extern const size_t suite_forget_test_count;

/* Given by each runner: cmocka's setup and teardown of one test; *state is a struct suite. */
int suite_setup(void **state);
int suite_teardown(void **state);

struct chp_store_callbacks suite_callbacks(struct suite *suite);

/* One batch. */
struct commit {
    struct chp_batch batch;
    bool done;
    int code;
    struct chp_error error;
};
struct commit *suite_batch(struct suite *suite); /* released with suite_release */
int suite_commit(struct suite *suite, struct commit *commit);
void suite_release(struct commit *commit);
/* Commits and must succeed. */
void suite_commit_ok(struct suite *suite, struct commit *commit);

/* Writes. suite_operation also writes the item; the resource is not written. */
struct wanted {
    const char *resource; /* "web" when NULL, as below */
    const char *origin;   /* "Nantes" */
    uint64_t n;           /* 1 */
    uint64_t stamp_ms;    /* 1000 * n */
    enum chp_level level;
    bool clock_suspect;
    uint8_t id; /* last byte of the operation's id: n when 0 */
};
struct chp_uuid suite_uuid(uint8_t last);
struct chp_operation *suite_make(struct suite *suite, const struct wanted *wanted,
                                 struct chp_bytes *item);
struct chp_operation *suite_operation(struct suite *suite, struct commit *commit,
                                      const struct wanted *wanted);
void suite_self(struct commit *commit, const char *site, uint64_t incarnation);
struct chp_resource_row *suite_resource(struct commit *commit, const char *id,
                                        enum chp_level level);
struct chp_execution_row *suite_execution(struct commit *commit, uint8_t operation,
                                          const char *site, uint32_t run, enum chp_state state);
/* A key of alice's, whose hash says the operation. */
void suite_key(struct commit *commit, const char *key, uint8_t operation, uint64_t at_ms);
/* operation 0: the key is not there. */
void suite_assert_key(struct suite *suite, const char *principal, const char *key,
                      uint8_t operation);
void suite_outbound(struct commit *commit, const char *site, enum chp_key key, uint64_t number,
                    uint8_t operation, const char *item);
void suite_mark(struct commit *commit, enum chp_write_kind kind, const char *site, enum chp_key key,
                uint64_t incarnation, uint64_t mark);
/* Self Nantes 7, resource web, operations 1..count with their own executions queued. */
void suite_begin(struct suite *suite, uint8_t count);

/* Loads one thing in a batch of its own, which must succeed; valid until suite_release. */
struct chp_load *suite_load(struct suite *suite, struct commit **commit, enum chp_load_kind kind,
                            const struct chp_load *asked);
/* Asks; *json is a new reference, NULL when there is no such row. Returns the code. */
int suite_ask(struct suite *suite, enum chp_query query, json_t **json, const char *a,
              const char *b, const char *c, const char *d);
int suite_ask_with(struct suite *suite, enum chp_query query, json_t **json,
                   const char *const *params, size_t count);
/* The two must be equal; expected is JSON with ' for ". */
void suite_assert_json(const json_t *json, const char *expected);

#endif
