/* SPDX-License-Identifier: AGPL-3.0-only */
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct fixture {
    char path[64];
    struct chp_arena arena;
    struct chp_config_token *tokens;
    size_t count;
    struct chp_error error;
};

static int load(struct fixture *fixture, const char *text, mode_t mode)
{
    *fixture = (struct fixture){.path = "/tmp/cheops-test-tokens.XXXXXX"};
    int fd = mkstemp(fixture->path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
    int code = chp_config_tokens_load(fixture->path, &fixture->arena, &fixture->tokens,
                                      &fixture->count, &fixture->error);
    assert_int_equal(unlink(fixture->path), 0);
    return code;
}

static void tokens_are_read(void **state)
{
    (void)state;
    struct fixture fixture;
    assert_int_equal(load(&fixture,
                          "# who: what\n\nalice:0123456789abcdef\r\n  bob:a:b:0123456789ab:=  \n"
                          "alice:another-token-of-hers",
                          0600),
                     0);
    assert_int_equal(fixture.count, 3);
    assert_string_equal(fixture.tokens[0].principal, "alice");
    assert_string_equal(fixture.tokens[0].token, "0123456789abcdef");
    assert_string_equal(fixture.tokens[1].principal, "bob");
    assert_string_equal(fixture.tokens[1].token, "a:b:0123456789ab:=");
    assert_string_equal(fixture.tokens[2].token, "another-token-of-hers");
    chp_arena_deinit(&fixture.arena);
    assert_int_equal(load(&fixture, "", 0400), 0);
    assert_int_equal(fixture.count, 0);
    chp_arena_deinit(&fixture.arena);
}

struct refused_case {
    const char *text;
    mode_t mode;
    int code;
    const char *sentence;
};

static const struct refused_case refused[] = {
    {"a:SECRET-0123456789\n", 0640, CHP_EFORBIDDEN, "its mode is 0640"},
    {"a:SECRET-0123456789\n", 0604, CHP_EFORBIDDEN, "it must be 0600"},
    {"a:SECRET-0123456789\n", 0620, CHP_EFORBIDDEN, "it must be 0600"},
    {"\nSECRET-0123456789\n", 0600, CHP_EINVAL, ":2: a line must be principal:token"},
    {":SECRET-0123456789\n", 0600, CHP_EINVAL, ":1: a principal must have 1 to 200"},
    {"SECRET x:0123456789abcdef\n", 0600, CHP_EINVAL, ":1: a principal must have 1 to 200"},
    {"a:SECRET-short\n", 0600, CHP_EINVAL, ":1: a token must have 16 to 512"},
    {"a:SECRET with blanks in it\n", 0600, CHP_EINVAL, ":1: a token must have 16 to 512"},
    {"a:SECRET-0123456789é\n", 0600, CHP_EINVAL, ":1: a token must have 16 to 512"},
    {"a:SECRET-0123456789\nb:SECRET-0123456789\n", 0600, CHP_EINVAL,
     ":2: the token of this line stands in an earlier line"},
};

static void what_is_wrong_is_refused_without_the_secret(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct fixture fixture;
        int code = load(&fixture, refused[i].text, refused[i].mode);
        if (code != refused[i].code || strstr(fixture.error.text, refused[i].sentence) == NULL) {
            fail_msg("%s: %d \"%s\"", refused[i].text, code, fixture.error.text);
        }
        assert_null(strstr(fixture.error.text, "SECRET"));
        assert_non_null(strstr(fixture.error.text, fixture.path));
        assert_int_equal(fixture.count, 0);
        assert_null(fixture.tokens);
        chp_arena_deinit(&fixture.arena);
    }
}

static void bounds_hold(void **state)
{
    (void)state;
    struct fixture fixture;
    struct chp_buf text = {0};
    for (int i = 0; i < CHP_CONFIG_TOKENS_MAX; i++) {
        chp_buf_printf(&text, "p:0123456789abcdef-%d\n", i);
    }
    assert_int_equal(load(&fixture, chp_buf_text(&text), 0600), 0);
    assert_int_equal(fixture.count, CHP_CONFIG_TOKENS_MAX);
    chp_arena_deinit(&fixture.arena);
    chp_buf_add_text(&text, "p:0123456789abcdef-last\n");
    assert_int_equal(load(&fixture, chp_buf_text(&text), 0600), CHP_EINVAL);
    assert_non_null(strstr(fixture.error.text, ":1025: more than 1024 tokens"));
    chp_arena_deinit(&fixture.arena);
    chp_buf_deinit(&text);
}

static void other_kinds_of_file_are_refused(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    struct chp_config_token *tokens;
    size_t count;
    assert_int_equal(chp_config_tokens_load("/nonexistent/tokens", &arena, &tokens, &count, &error),
                     CHP_ENOTFOUND);
    char directory[] = "/tmp/cheops-test-tokens.XXXXXX"; /* mode 0700 */
    assert_non_null(mkdtemp(directory));
    assert_int_equal(chp_config_tokens_load(directory, &arena, &tokens, &count, &error), CHP_EIO);
    char fifo[64];
    (void)snprintf(fifo, sizeof fifo, "%s/fifo", directory);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(chp_config_tokens_load(fifo, &arena, &tokens, &count, &error), CHP_EIO);
    assert_int_equal(unlink(fifo), 0);
    assert_int_equal(rmdir(directory), 0);
    chp_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_read),
        cmocka_unit_test(what_is_wrong_is_refused_without_the_secret),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(other_kinds_of_file_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
