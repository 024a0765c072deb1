/* SPDX-License-Identifier: AGPL-3.0-only */
/* The pure parts of the client: the command line, text for people, server-sent events, which agent
 * is asked. */
#include "base/limits.h"
#include "cli/args.h"
#include "cli/endpoint.h"
#include "cli/split.h"
#include "cli/sse.h"
#include "cli/text.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_text(struct chp_buf *buf, const char *expected)
{
    assert_string_equal(chp_buf_text(buf), expected);
    chp_buf_deinit(buf);
}

static int parse(struct chp_arena *arena, struct cli_args *args, struct chp_error *error,
                 const char *const *words)
{
    char *argv[16] = {(char *)(uintptr_t) "cheops"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    }
    char **copy = chp_arena_calloc(arena, (size_t)argc + 1, sizeof *copy);
    memcpy(copy, argv, (size_t)argc * sizeof *copy);
    return cli__args_parse(argc, copy, arena, args, error);
}

#define PARSE(...) parse(&arena, &args, &error, (const char *const[]){__VA_ARGS__, NULL})

static void test_options_stand_anywhere_before_the_dashes(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct cli_args args;
    struct chp_error error = {0};
    assert_int_equal(PARSE("--site", "Nantes", "exec", "--id=a", "-ojson", "--file", "x=1",
                           "--file=y=2", "--type", "t", "--", "ls", "--site", "--"),
                     0);
    assert_string_equal(args.command->name, "exec");
    assert_string_equal(cli__arg(&args, OPT_SITE), "Nantes");
    assert_string_equal(cli__arg(&args, OPT_ID), "a");
    assert_string_equal(cli__arg(&args, OPT_OUTPUT), "json");
    assert_int_equal(args.options[OPT_FILE].count, 2);
    assert_string_equal(args.options[OPT_FILE].values[0], "x=1");
    assert_string_equal(args.options[OPT_FILE].values[1], "y=2");
    assert_int_equal(args.word_count, 3);
    assert_string_equal(args.words[1], "--site");
    assert_string_equal(args.words[2], "--");
    assert_null(cli__arg(&args, OPT_SCOPE));
    chp_arena_deinit(&arena);
}

static void test_operands(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct cli_args args;
    struct chp_error error = {0};
    assert_int_equal(PARSE("op", "-o", "text", "show", "--", "-strange-id"), 0);
    assert_string_equal(args.command->name, "op show");
    assert_string_equal(args.operands[0], "-strange-id");
    assert_int_equal(PARSE("http", "--id", "a", "--data", "-", "PUT", "-"), 0);
    assert_string_equal(cli__arg(&args, OPT_DATA), "-");
    assert_string_equal(args.operands[1], "-");
    assert_int_equal(PARSE("exec", "--scope=", "--", "x"), 0);
    assert_string_equal(cli__arg(&args, OPT_SCOPE), "");
    assert_int_equal(PARSE("op", "--help"), 0);
    assert_true(args.help);
    assert_string_equal(args.group, "op");
    assert_null(args.command);
    assert_int_equal(PARSE("--version"), 0);
    assert_string_equal(args.command->name, "version");
    chp_arena_deinit(&arena);
}

static void test_bad_command_lines(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct cli_args args;
    struct chp_error error = {0};
    assert_int_equal(PARSE("exec", "--wait=yes", "--", "x"), CHP_EINVAL);
    assert_string_equal(error.text, "--wait takes no value");
    assert_int_equal(PARSE("exec", "--id", "--", "x"), CHP_EINVAL);
    assert_string_equal(error.text, "--id needs a value: --id ID");
    assert_int_equal(PARSE("exec", "-x", "--", "x"), CHP_EINVAL);
    assert_string_equal(error.text, "unknown option -x");
    assert_int_equal(PARSE("exec", "--tpye", "x"), CHP_EINVAL);
    assert_string_equal(error.text, "unknown option --tpye; did you mean --type?");
    assert_int_equal(PARSE("__ids"), CHP_EINVAL);
    assert_int_equal(PARSE("dead"), CHP_EINVAL);
    assert_string_equal(error.text, "say what to do with 'cheops dead': list, show, requeue, drop");
    chp_arena_deinit(&arena);
}

/* What help and completion rely on. */
static void test_the_table_is_sound(void **state)
{
    (void)state;
    for (int i = 0; i < OPT_COUNT; i++) {
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(cli__options[i].name, cli__options[j].name);
            assert_true(cli__options[i].letter == 0 ||
                        cli__options[i].letter != cli__options[j].letter);
        }
        assert_true(cli__options[i].help[0] != 0);
    }
    for (size_t i = 0; i < cli__command_count; i++) {
        assert_ptr_equal(cli__command_find(cli__commands[i].name), &cli__commands[i]);
        assert_non_null((void *)(uintptr_t)cli__commands[i].run);
        assert_true(cli__commands[i].operands_min <= cli__commands[i].operands_max);
        assert_true(cli__commands[i].hidden || cli__commands[i].summary[0] != 0);
    }
}

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"1ms", 1}, {"60s", 60000}, {"5m", 300000}, {"1440m", 86400000}, {"007s", 7000}};
    static const char *const bad[] = {
        "", "s", "5", "5h", "-5s", "1.5s", " 5s", "5s ", "0s", "1441m", "99999999999999999999s"};
    uint64_t ms = 0;
    struct chp_error error = {0};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(cli__duration_parse(good[i].text, &ms, &error), 0);
        assert_true(ms == good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(cli__duration_parse(bad[i], &ms, &error), CHP_EINVAL);
        assert_non_null(strstr(error.text, "ms, s or m"));
    }
}

static void test_durations_for_people(void **state)
{
    (void)state;
    static const struct {
        uint64_t ms;
        const char *text;
    } table[] = {{0, "0 ms"},         {999, "999 ms"},   {9999, "9999 ms"},   {10000, "10.0 s"},
                 {99999, "99.9 s"},   {100000, "1 min"}, {5999999, "99 min"}, {6000000, "1 h"},
                 {172799999, "47 h"}, {172800000, "2 d"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct chp_buf buf = {0};
        cli__duration_format(table[i].ms, &buf);
        assert_text(&buf, table[i].text);
    }
}

static void test_times(void **state)
{
    (void)state;
    uint64_t ms = 0;
    assert_int_equal(cli__time_parse("1970-01-01T00:00:01.5Z", &ms), 0);
    assert_true(ms == 1500);
    assert_int_equal(cli__time_parse("2026-11-24T03:32:03.123456Z", &ms), 0);
    assert_true(ms == UINT64_C(1795491123123));
    assert_int_equal(cli__time_parse("2026-11-24T03:32:03", &ms), CHP_EMALFORMED);
    assert_int_equal(cli__time_parse("2026-11-24T03:32:03+01:00", &ms), CHP_EMALFORMED);
    assert_int_equal(cli__time_parse("yesterday", &ms), CHP_EMALFORMED);
    struct chp_buf buf = {0};
    cli__time_ago(1000, 4999, &buf);
    assert_text(&buf, "3 s ago");
    cli__time_ago(1000, 1001, &buf);
    assert_text(&buf, "now");
    cli__time_ago(9000, 1000, &buf);
    assert_text(&buf, "in 8 s");
    cli__time_ago(0, 600000, &buf);
    assert_text(&buf, "10 min ago");
}

static void test_widths(void **state)
{
    (void)state;
    assert_int_equal(cli__text_width("Évreux"), 6);
    assert_int_equal(cli__text_width("日本"), 4);
    assert_int_equal(cli__text_width("e\xcc\x81"), 1);
    assert_int_equal(cli__text_width("\xff\xfe"), 2);
    struct chp_buf buf = {0};
    cli__text_pad(&buf, "日本", 6, false);
    assert_text(&buf, "日本  ");
    cli__text_pad(&buf, "12", 4, true);
    assert_text(&buf, "  12");
    cli__text_pad(&buf, "longer", 3, false);
    assert_text(&buf, "longer");
    cli__text_fit(&buf, "日本語", 5);
    assert_text(&buf, "日本…");
    cli__text_fit(&buf, "日本語", 4);
    assert_text(&buf, "日…");
    cli__text_fit(&buf, "abc", 3);
    assert_text(&buf, "abc");
    cli__text_fit(&buf, "abc", 1);
    assert_text(&buf, "…");
    cli__text_fit(&buf, "abc", 0);
    assert_text(&buf, "");
}

static void test_escapes(void **state)
{
    (void)state;
    static const char evil[] = "a\tb\n\x1b[2J\x7f\xc2\x9b\xe2\x80\xae é\xff";
    struct chp_buf buf = {0};
    cli__text_escape(&buf, evil, sizeof evil - 1, false);
    assert_text(&buf, "a\\tb\\n\\x1b[2J\\x7f\\x9b\\u202e é\\xff");
    cli__text_escape(&buf, "a\tb", 3, true);
    assert_text(&buf, "a\tb");
}

static void test_sizes(void **state)
{
    (void)state;
    struct chp_buf buf = {0};
    cli__size_format(0, &buf);
    assert_text(&buf, "0 B");
    cli__size_format(1536, &buf);
    assert_text(&buf, "1.5 KiB");
    cli__size_format(20 << 20, &buf);
    assert_text(&buf, "20 MiB");
}

static void test_carets(void **state)
{
    (void)state;
    struct chp_buf buf = {0};
    assert_true(cli__text_caret(&buf, "É & x", "unexpected x at character 5; hm"));
    assert_text(&buf, "    É & x\n        ^\n");
    assert_true(cli__text_caret(&buf, "日 &", "missing site at character 4"));
    assert_text(&buf, "    日 &\n        ^\n");
    assert_true(cli__text_caret(&buf, "a\n&", "at character 3"));
    assert_text(&buf, "    a\\n&\n       ^\n");
    assert_false(cli__text_caret(&buf, "a", "no place"));
    assert_false(cli__text_caret(&buf, "a", "at character 0"));
    assert_false(cli__text_caret(&buf, "a", "at character 99"));
    assert_int_equal(buf.len, 0);
}

static void test_server_sent_events(void **state)
{
    (void)state;
    static const char *const silent[] = {"", ": comment", "", "event: x", "id: 3", "", "data"};
    struct cli_sse sse = {0};
    for (size_t i = 0; i < sizeof silent / sizeof silent[0]; i++) {
        assert_false(cli__sse_line(&sse, silent[i], strlen(silent[i]), 10));
    }
    assert_false(cli__sse_line(&sse, "data: ab", 8, 10));
    assert_false(cli__sse_line(&sse, "data:cd", 7, 10));
    assert_true(cli__sse_line(&sse, "", 0, 10));
    assert_string_equal(chp_buf_text(&sse.data), "ab\ncd");
    assert_false(cli__sse_line(&sse, "", 0, 10));
    assert_false(cli__sse_line(&sse, "data: 0123456789x", 17, 10));
    assert_false(cli__sse_line(&sse, "data: more", 10, 10));
    assert_false(cli__sse_line(&sse, "", 0, 10));
    assert_false(cli__sse_line(&sse, "data: ok", 8, 10));
    assert_true(cli__sse_line(&sse, "", 0, 10));
    assert_string_equal(chp_buf_text(&sse.data), "ok");
    cli__sse_deinit(&sse);
}

static void test_endpoints(void **state)
{
    (void)state;
    static const struct {
        const char *api;
        const char *url;
        const char *token;
    } good[] = {
        {"http://cheops:s%3Acret@127.0.0.1:1234/", "http://127.0.0.1:1234", "s:cret"},
        {"http://secret@localhost", "http://localhost", "secret"},
        {"https://[::1]:1/prefix/?q#f", "https://[::1]:1/prefix", "none"},
        {"unix:/run/a.sock", "http://localhost", "none"},
        {"unix:///run/a.sock", "http://localhost", "none"},
    };
    struct chp_arena arena = {0};
    struct cli_endpoint endpoint;
    struct chp_error error = {0};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(cli__endpoint_find(NULL, good[i].api, &arena, &endpoint, &error), 0);
        assert_string_equal(endpoint.url, good[i].url);
        assert_null(strstr(endpoint.shown, "cret"));
        assert_string_equal(endpoint.token == NULL ? "none" : endpoint.token, good[i].token);
    }
    assert_string_equal(endpoint.socket, "/run/a.sock");
    assert_int_equal(cli__endpoint_find(NULL, "ftp://u:hidden@x", &arena, &endpoint, &error),
                     CHP_EINVAL);
    assert_null(strstr(error.text, "hidden"));
    assert_string_equal(cli__endpoint_variable("Saint-Malo.1é", &arena),
                        "CHEOPS_API_SAINT_MALO_1__");
    chp_arena_deinit(&arena);
}

/* Words between '|'. */
static void assert_split(const char *line, const char *expected)
{
    struct chp_arena arena = {0};
    struct chp_buf joined = {0};
    const char **words;
    size_t count;
    struct chp_error error = {0};
    if (cli__split(line, &arena, &words, &count, &error) != 0) {
        chp_buf_printf(&joined, "refused: %s", error.text);
        count = 0;
    }
    for (size_t i = 0; i < count; i++) {
        chp_buf_printf(&joined, "%s%s", i == 0 ? "" : "|", words[i]);
    }
    assert_text(&joined, expected);
    chp_arena_deinit(&arena);
}

static void test_a_command_line_is_split_as_a_shell_does(void **state)
{
    (void)state;
    assert_split("rm /tmp/hello", "rm|/tmp/hello");
    assert_split("  sh -c 'rm  x; echo $y'\n", "sh|-c|rm  x; echo $y");
    assert_split("a\\ b \"c \\\" d\" e''f \"\" 'g'\"h\"", "a b|c \" d|ef||gh");
    assert_split("sed -i '$ d' {note}", "sed|-i|$ d|{note}");
    assert_split("echo \"a\\b\\$\"", "echo|a\\b$");
    assert_split("", "refused: it is empty");
    assert_split(" \t ", "refused: it is empty");
    assert_split("a 'b", "refused: character 3: the quote is not closed");
    assert_split("a b\\", "refused: character 4: nothing follows the backslash");
    assert_split("rm x; ls", "refused: character 5: no shell runs it: quote this character, or use "
                             "sh -c '...'");
    assert_split("rm *", "refused: character 4: no shell runs it: quote this character, or use "
                         "sh -c '...'");
    assert_split("rm \"$HOME\"", "refused: character 5: no shell runs it, so nothing would be put "
                                 "in its place: use single quotes, or sh -c '...'");
    char many[2 * (CHP_ARGV_MAX + 1) + 1];
    for (size_t i = 0; i < sizeof many - 1; i += 2) {
        memcpy(many + i, "a ", 2);
    }
    many[sizeof many - 1] = 0;
    assert_split(many, "refused: it has more than 1024 words");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_stand_anywhere_before_the_dashes),
        cmocka_unit_test(test_a_command_line_is_split_as_a_shell_does),
        cmocka_unit_test(test_operands),
        cmocka_unit_test(test_bad_command_lines),
        cmocka_unit_test(test_the_table_is_sound),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_durations_for_people),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_widths),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_carets),
        cmocka_unit_test(test_server_sent_events),
        cmocka_unit_test(test_endpoints),
    };
    /* No token of whoever runs the tests. */
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL || setenv("HOME", "/nonexistent", 1) != 0 ||
        unsetenv("XDG_CONFIG_HOME") != 0 || unsetenv("CHEOPS_TOKEN") != 0 ||
        unsetenv("CHEOPS_TOKEN_FILE") != 0) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
