/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/mem.h"
#include "scope/scope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const known[] = {"Rennes", "Nantes", "Paris", "Saint Malo"};
static const struct chp_scope_sites sites = {
    .self = "Nantes", .known = known, .known_count = COUNT(known)};

struct printed_case {
    const char *text;
    const char *printed;
};

static const struct printed_case valid[] = {
    {"Nantes", "Nantes"},
    {" \t\r\nNantes ", "Nantes"},
    {"Nantes&Rennes", "Nantes & Rennes"},
    {"a.b_c-1 & 7", "a.b_c-1 & 7"},
    {"*", "*"},
    {"*&A", "* & A"},
    {"\"Nantes\"", "Nantes"},
    {"\"Saint Malo\" & \"Besançon\"", "\"Saint Malo\" & \"Besançon\""},
    {"\"*\"", "\"*\""},
    {"A % B", "A % B"},
    {"A*3%B", "A*3 % B"},
    {"A * 3 % \"x y\"*2", "A*3 % \"x y\"*2"},
    {"A*1", "A"},
    {"A*0001000000 % B", "A*1000000 % B"},
    {"A||B", "A || B"},
    {"((A))", "A"},
    {"(A & B) & C", "A & B & C"},
    {"A & (B & (C & D))", "A & B & C & D"},
    {"A || (B || C)", "A || B || C"},
    {"(A % B) % C", "(A % B) % C"},
    {"A % (B % C)", "A % (B % C)"},
    {"(A & B) % C", "A & B % C"},
    {"A & (B % C)", "A & (B % C)"},
    {"A & (B || C)", "A & (B || C)"},
    {"(A % B) || (C & D)", "A % B || C & D"},
    {"A || B % C & D", "A || B % C & D"},
    {"((A || B) % C) & D", "((A || B) % C) & D"},
    {"around: A, 50ms", "around: A, 50ms"},
    {"around : \"a b\" , 1000ms", "around: \"a b\", 1s"},
    {"around(A, 50ms)", "around: A, 50ms"},
    {"(around(A,50ms))", "around: A, 50ms"},
    {"B & around(A,2s)", "B & around(A, 2s)"},
    {"around: A, 0s", "around: A, 0ms"},
    {"around: A, 3600s", "around: A, 3600s"},
    {"around", "around"},
    {"around & prime", "around & prime"},
    {"\"around\"", "around"},
    {"{nova:Amiens,glance:Paris}", "{nova: Amiens, glance: Paris}"},
    {"{ nova : A % B , prime : A }", "{nova: A % B, prime: A}"},
    {"{around: A, 50ms}", "{around: A, 50ms}"},
    {"{around: A, 50ms, nova: around(B, 1ms)}", "{around: A, 50ms, nova: around(B, 1ms)}"},
    {"{\"prime\": A, \"around\": B, prime: A}", "{\"prime\": A, \"around\": B, prime: A}"},
    {"{\"nova\": A & (B || C), x: *}", "{nova: A & (B || C), x: *}"},
};

static void valid_scopes_print_canonically(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(valid); i++) {
        struct chp_arena arena = {0};
        struct chp_error error = {0};
        struct chp_scope *scope;
        if (chp_scope_parse(valid[i].text, &arena, &scope, &error) != 0) {
            fail_msg("%s: %s", valid[i].text, error.text);
        }
        char *printed = chp_scope_print(scope, &arena);
        assert_string_equal(printed, valid[i].printed);
        assert_int_equal(chp_scope_parse(printed, &arena, &scope, &error), 0);
        assert_string_equal(chp_scope_print(scope, &arena), printed);
        chp_arena_deinit(&arena);
    }
}

struct error_case {
    const char *text;
    const char *sentence;
};

static const struct error_case invalid[] = {
    {"", "scope at character 1: found the end, allowed here: a site, '*', '(', around(site, "
         "duration)"},
    {"   ", "scope at character 4: found the end, allowed here: a site"},
    {"A &", "scope at character 4: found the end, allowed here: a site"},
    {"A & & B", "scope at character 5: found '&', allowed here: a site"},
    {"& A", "scope at character 1: found '&', allowed here: a site"},
    {"A B", "scope at character 3: found 'B', allowed here: '*' weight, '&', '%', '||', the end"},
    {"A*2 B", "scope at character 5: found 'B', allowed here: '&', '%', '||', the end"},
    {"A \"b c\"", "scope at character 3: found 'b c', allowed here: '*' weight"},
    {"A | B", "scope at character 3: found a single '|'; \"or\" is written '||'"},
    {"A ||| B", "scope at character 5: found a single '|'"},
    {"(A & B", "scope at character 7: found the end, allowed here: '&', '%', '||', ')'"},
    {"A & B)", "scope at character 6: found ')', allowed here: '&', '%', '||', the end"},
    {"()", "scope at character 2: found ')', allowed here: a site"},
    {"A*", "scope at character 3: found the end, allowed here: a whole number from 1 to 1000000"},
    {"A*0 % B", "scope at character 3: found '0', allowed here: a whole number"},
    {"A*1000001 % B", "scope at character 3: found '1000001', allowed here: a whole number"},
    {"A*99999999999999999999999999", "scope at character 3: found '99999999999999999999999999'"},
    {"A*3x", "scope at character 3: found '3x', allowed here: a whole number"},
    {"A*\"3\"", "scope at character 3: found '3', allowed here: a whole number"},
    {"**", "scope at character 2: found '*', allowed here: '&', '%', '||', the end"},
    {"*3", "scope at character 2: found '3', allowed here: '&'"},
    {"(A & B)*3", "scope at character 8: found '*', allowed here: '&'"},
    {"Nantes & Besançon", "scope at character 15: found 'ç'; names are letters"},
    {"\"Besançon\" & é", "scope at character 14: found 'é'; names are letters"},
    {"\"œœ\" œ", "scope at character 6: found 'œ'"},
    {"A & \xff", "scope at character 5: not valid UTF-8"},
    {"\"\xc3\"", "scope at character 2: not valid UTF-8"},
    {"\"\xc3", "scope at character 2: not valid UTF-8"},
    {"\"a\xed\xa0\x80\"", "scope at character 3: not valid UTF-8"},
    {"A & \"B", "scope at character 5: the quote that opens here is not closed"},
    {"A & \"\"", "scope at character 5: an empty name"},
    {"\"é\nA\"", "scope at character 3: a control character in a name"},
    {"A\x01", "scope at character 2: found a control character"},
    {"A/B", "scope at character 2: found '/'; names are letters"},
    {"A, B", "scope at character 2: found ',', allowed here: '&', '%', '||', the end"},
    {"around: A", "scope at character 10: found the end, allowed here: ',' and a duration"},
    {"around: A, 50", "scope at character 12: found '50', allowed here: a duration up to one hour"},
    {"around: A, 50 ms", "scope at character 12: found '50', allowed here: a duration"},
    {"around: A, ms", "scope at character 12: found 'ms', allowed here: a duration"},
    {"around: A, 50m", "scope at character 12: found '50m', allowed here: a duration"},
    {"around: A, 3601s", "scope at character 12: found '3601s', allowed here: a duration"},
    {"around: A, 3600001ms", "scope at character 12: found '3600001ms'"},
    {"around: A, 99999999999999999999s", "scope at character 12: found '99999999999999999999s'"},
    {"around: A, 18446744073709552s", "scope at character 12: found '18446744073709552s'"},
    {"around: A, 50ms & B", "scope at character 17: found '&', allowed here: the end"},
    {"around: (A), 50ms", "scope at character 9: found '(', allowed here: a site"},
    {"around(A, 50ms", "scope at character 15: found the end, allowed here: ')'"},
    {"around(A; 50ms)", "scope at character 9: found ';'; names are letters"},
    {"{}", "scope at character 2: found '}', allowed here: a service"},
    {"{A}", "scope at character 3: found '}', allowed here: ':'"},
    {"{nova: }", "scope at character 8: found '}', allowed here: a site"},
    {"{nova: A", "scope at character 9: found the end, allowed here: '&', '%', '||', ',', '}'"},
    {"{nova: (A}", "scope at character 10: found '}', allowed here: '&', '%', '||', ')'"},
    {"{prime: A & B}", "scope at character 11: found '&', allowed here: ',', '}'"},
    {"{prime: *}", "scope at character 9: found '*', allowed here: a site"},
    {"{nova: A,}", "scope at character 10: found '}', allowed here: a service"},
    {"{nova: A} & B", "scope at character 11: found '&', allowed here: the end"},
    {"{nova: A, glance: B, nova: C}", "scope at character 22: 'nova' is there already, at "
                                      "character 2"},
    {"{prime: A, prime: B}", "scope at character 12: 'prime' is there already"},
    {"{around: A, 1s, around: A, 2s}", "scope at character 17: 'around' is there already"},
    {"A & {nova: B}", "scope at character 5: found '{', allowed here: a site"},
    {"aaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbb1 aaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbb1",
     "scope at character 43: found 'aaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbb...', allowed"},
};

static void invalid_scopes_name_the_character(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(invalid); i++) {
        struct chp_arena arena = {0};
        struct chp_error error = {0};
        struct chp_scope *scope;
        int code = chp_scope_parse(invalid[i].text, &arena, &scope, &error);
        if (code != CHP_EMALFORMED ||
            strncmp(error.text, invalid[i].sentence, strlen(invalid[i].sentence)) != 0) {
            fail_msg("%s: %d \"%s\", not \"%s\"", invalid[i].text, code, error.text,
                     invalid[i].sentence);
        }
        assert_null(scope);
        assert_true(chp_utf8_valid(error.text, strlen(error.text)));
        chp_arena_deinit(&arena);
    }
}

/* count times before, middle, count times after. */
static char *repeat(const char *before, size_t count, const char *middle, const char *after)
{
    struct chp_buf text = {0};
    for (size_t i = 0; i < count; i++) {
        chp_buf_add_text(&text, before);
    }
    chp_buf_add_text(&text, middle);
    for (size_t i = 0; i < count; i++) {
        chp_buf_add_text(&text, after);
    }
    return chp_buf_take(&text);
}

static void expect_bound(char *text, int expected, const char *sentence)
{
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    struct chp_scope *scope;
    int code = chp_scope_parse(text, &arena, &scope, &error);
    if (code != expected || strstr(error.text, sentence) == NULL) {
        fail_msg("%.60s...: %d \"%s\", not \"%s\"", text, code, error.text, sentence);
    }
    chp_arena_deinit(&arena);
    free(text);
}

static void bounds_hold(void **state)
{
    (void)state;
    expect_bound(repeat("(", CHP_SCOPE_DEPTH_MAX, "A", ")"), 0, "");
    expect_bound(repeat("(", CHP_SCOPE_DEPTH_MAX + 1, "A", ")"), CHP_ETOODEEP,
                 "at character 33: more than 32 open parentheses");
    expect_bound(repeat("(A)&", 100, "A", ""), 0, "");
    expect_bound(repeat("A&", 1022, "A", ""), 0, "");
    expect_bound(repeat("A&", 1023, "A", ""), CHP_ETOOBIG, "more than 1024 sites and operators");
    expect_bound(repeat("", 0, "A", ""), 0, "");
    expect_bound(repeat(" ", CHP_SCOPE_MAX_BYTES - 1, "A", ""), 0, "");
    expect_bound(repeat(" ", CHP_SCOPE_MAX_BYTES, "A", ""), CHP_ETOOBIG,
                 "has 4097 bytes, at most 4096 are allowed");
    expect_bound(repeat("aaa&", 999, "A", ""), CHP_ETOOBIG, "when written with spaces");
    expect_bound(repeat("a", 100, "", ""), 0, "");
    expect_bound(repeat("a", 101, "", ""), CHP_ETOOBIG,
                 "at character 1: the name has 101 bytes, at most 100 are allowed");
    expect_bound(repeat("(", 4000, "", ""), CHP_ETOODEEP, "at character 33");
}

static void the_tree_is_as_written(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    struct chp_scope *scope;
    assert_int_equal(
        chp_scope_parse("{nova: A*3 % \"é\", prime: A, around: B, 2s}", &arena, &scope, &error), 0);
    assert_int_equal(scope->kind, CHP_SCOPE_MAP);
    assert_int_equal(scope->child_count, 3);
    const struct chp_scope *nova = scope->children[0];
    assert_int_equal(nova->kind, CHP_SCOPE_ENTRY);
    assert_string_equal(nova->name, "nova");
    assert_int_equal(nova->child_count, 1);
    const struct chp_scope *cross = nova->children[0];
    assert_int_equal(cross->kind, CHP_SCOPE_CROSS);
    assert_int_equal(cross->character, 12);
    assert_int_equal(cross->child_count, 2);
    assert_int_equal(cross->children[0]->weight, 3);
    assert_int_equal(cross->children[1]->weight, 1);
    assert_int_equal(cross->children[1]->character, 14);
    assert_string_equal(cross->children[1]->name, "é");
    assert_int_equal(scope->children[1]->kind, CHP_SCOPE_PRIME);
    assert_string_equal(scope->children[1]->name, "A");
    assert_int_equal(scope->children[2]->kind, CHP_SCOPE_AROUND);
    assert_int_equal(scope->children[2]->duration_ms, 2000);
    assert_int_equal(scope->children[2]->character, 29);
    chp_arena_deinit(&arena);
}

struct resolve_case {
    const char *text;
    int code;
    const char *result; /* members, or the beginning of the sentence */
};

static const struct resolve_case resolutions[] = {
    {"Nantes", 0, "Nantes"},
    {"Rennes & Nantes & Paris", 0, "Nantes Paris Rennes"},
    {"Rennes & (Rennes & Rennes)", 0, "Rennes"},
    {"*", 0, "Nantes Paris Rennes Saint Malo"},
    {"Paris & *", 0, "Nantes Paris Rennes Saint Malo"},
    {"\"Saint Malo\"", 0, "Saint Malo"},
    {"A || B", CHP_EREFUSED,
     "scope at character 3: or (||) is not resolved yet: name the sites with &"},
    {"Nantes & (Paris || Rennes)", CHP_EREFUSED, "scope at character 17: or (||) is not resolved"},
    {"A % B", CHP_EREFUSED, "scope at character 3: cross (%) is not resolved yet"},
    {"around: A, 5ms", CHP_EREFUSED, "scope at character 1: around is not resolved yet"},
    {"Nantes & around(A, 5ms)", CHP_EREFUSED, "scope at character 10: around is not resolved yet"},
    {"{nova: Nantes}", CHP_EREFUSED, "scope at character 1: sharing ({service: sites}) is not"},
    {"Nantes & Paris*2", CHP_EREFUSED,
     "scope at character 10: the weight of \"Paris\" says nothing here: a weight belongs to a site "
     "of a cross (%)"},
    {"Nante", CHP_EINVAL,
     "scope at character 1: unknown site \"Nante\": did you mean \"Nantes\"? known sites are "
     "Rennes, Nantes, Paris, Saint Malo"},
    {"Nantes & nantes", CHP_EINVAL,
     "scope at character 10: unknown site \"nantes\": did you mean \"Nantes\"?"},
    {"Renens", CHP_EINVAL,
     "scope at character 1: unknown site \"Renens\": did you mean \"Rennes\""},
    {"Vladivostok", CHP_EINVAL,
     "scope at character 1: unknown site \"Vladivostok\": known sites are Rennes"},
};

static void resolution_names_sites_or_says_why_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(resolutions); i++) {
        struct chp_arena arena = {0};
        struct chp_error error = {0};
        struct chp_scope *scope;
        const char **members;
        size_t count;
        assert_int_equal(chp_scope_parse(resolutions[i].text, &arena, &scope, &error), 0);
        int code = chp_scope_resolve(scope, &sites, &arena, &members, &count, &error);
        struct chp_buf got = {0};
        for (size_t j = 0; j < count; j++) {
            chp_buf_printf(&got, "%s%s", j == 0 ? "" : " ", members[j]);
        }
        chp_buf_add_text(&got, error.text);
        if (code != resolutions[i].code ||
            strncmp(chp_buf_text(&got), resolutions[i].result, strlen(resolutions[i].result)) !=
                0 ||
            (code == 0 && got.len != strlen(resolutions[i].result))) {
            fail_msg("%s: %d \"%s\", not \"%s\"", resolutions[i].text, code, chp_buf_text(&got),
                     resolutions[i].result);
        }
        chp_buf_deinit(&got);
        chp_arena_deinit(&arena);
    }
}

static void many_known_sites_are_cut_in_the_sentence(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    struct chp_scope *scope;
    const char **members;
    size_t count;
    const char *names[CHP_SITES_MAX];
    for (size_t i = 0; i < CHP_SITES_MAX; i++) {
        char *name = chp_arena_alloc(&arena, CHP_SITE_MAX_BYTES + 1);
        memset(name, 'x', CHP_SITE_MAX_BYTES);
        (void)snprintf(name, 5, "%04zu", i);
        name[4] = 'x';
        names[i] = name;
    }
    const struct chp_scope_sites many = {
        .self = names[0], .known = names, .known_count = CHP_SITES_MAX};
    char *wrong = chp_arena_strdup(&arena, names[7]);
    wrong[50] = 'y';
    assert_int_equal(chp_scope_parse(wrong, &arena, &scope, &error), 0);
    assert_int_equal(chp_scope_resolve(scope, &many, &arena, &members, &count, &error), CHP_EINVAL);
    assert_true(strlen(error.text) < CHP_ERROR_TEXT_BYTES - 1);
    assert_non_null(strstr(error.text, " and 255 more"));
    assert_non_null(strstr(error.text, "did you mean \"0007x"));
    chp_arena_deinit(&arena);
}

static void explanation_has_a_line_for_each_choice(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    struct chp_scope *scope;
    const char **lines;
    size_t count;
    assert_int_equal(chp_scope_parse("Paris & Nantes & *&Paris", &arena, &scope, &error), 0);
    assert_int_equal(chp_scope_explain(scope, &sites, &arena, &lines, &count, &error), 0);
    assert_int_equal(count, 4);
    assert_string_equal(lines[0], "Paris is named at character 1");
    assert_string_equal(lines[1], "Nantes is named at character 9, it is this site");
    assert_string_equal(lines[2], "* at character 18 is every site known here: Rennes, Nantes, "
                                  "Paris, Saint Malo");
    assert_string_equal(lines[3],
                        "Paris is named at character 20; it is chosen already and counts once");
    assert_int_equal(chp_scope_parse("Lille", &arena, &scope, &error), 0);
    assert_int_equal(chp_scope_explain(scope, &sites, &arena, &lines, &count, &error), CHP_EINVAL);
    chp_arena_deinit(&arena);
}

/* Random expressions, from a fixed seed so that a failure can be repeated. */
static uint32_t roll(uint64_t *seed, uint32_t sides)
{
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*seed >> 33) % sides;
}

static void random_blank(uint64_t *seed, struct chp_buf *out)
{
    static const char *const blanks[] = {"", "", " ", "\n", "  "};
    chp_buf_add_text(out, blanks[roll(seed, COUNT(blanks))]);
}

static void random_locations(uint64_t *seed, unsigned depth, struct chp_buf *out)
{
    static const char *const names[] = {"Nantes",    "Rennes", "\"Saint Malo\"", "around",  "prime",
                                        "\"Paris\"", "7",      "Lyon",           "\"é&|*\""};
    static const char *const marks[] = {"&", "&", "%", "||"};
    uint32_t operands = 1 + roll(seed, 3);
    for (uint32_t i = 0; i < operands; i++) {
        if (i > 0) {
            chp_buf_add_text(out, marks[roll(seed, COUNT(marks))]);
        }
        random_blank(seed, out);
        uint32_t choice = roll(seed, depth > 0 ? 8 : 6);
        if (choice >= 6) {
            chp_buf_add_text(out, "(");
            random_locations(seed, depth - 1, out);
            chp_buf_add_text(out, ")");
        } else if (choice == 5) {
            chp_buf_add_text(out, "*");
        } else if (choice == 4) {
            chp_buf_printf(out, "around(%s,%ums)", names[roll(seed, COUNT(names))],
                           roll(seed, 5000));
        } else {
            chp_buf_add_text(out, names[roll(seed, COUNT(names))]);
            if (choice == 3) {
                chp_buf_printf(out, "*%u", 1 + roll(seed, 3));
            }
        }
        random_blank(seed, out);
    }
}

static void random_scope(uint64_t *seed, struct chp_buf *out)
{
    static const char *const services[] = {"nova", "\"prime\"", "\"a b\"", "\"around\""};
    if (roll(seed, 4) > 0) {
        random_locations(seed, 4, out);
        return;
    }
    chp_buf_add_text(out, "{");
    uint32_t entries = 1 + roll(seed, COUNT(services));
    for (uint32_t i = 0; i < entries; i++) {
        chp_buf_printf(out, "%s:", services[i]);
        random_locations(seed, 2, out);
        chp_buf_add_text(out, ",");
    }
    chp_buf_add_text(out, roll(seed, 2) == 0 ? "prime: A}" : "around: A, 1500ms}");
}

static size_t parentheses(const char *text)
{
    size_t count = 0;
    bool quoted = false;
    for (; *text != '\0'; text++) {
        quoted ^= *text == '"';
        count += !quoted && *text == '(';
    }
    return count;
}

static void check_members_known(const struct chp_scope *scope, struct chp_arena *arena)
{
    struct chp_error error = {0};
    const char **members;
    size_t count;
    if (chp_scope_resolve(scope, &sites, arena, &members, &count, &error) != 0) {
        assert_int_equal(count, 0);
        return;
    }
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        bool is_known = false;
        for (size_t j = 0; j < sites.known_count; j++) {
            is_known |= strcmp(members[i], sites.known[j]) == 0;
        }
        assert_true(is_known);
        assert_true(i == 0 || strcmp(members[i - 1], members[i]) < 0);
    }
}

/* A pair of parentheses is needed when the text without it is another scope. */
static void check_parentheses_needed(const char *printed, struct chp_arena *arena)
{
    for (const char *open = strchr(printed, '('); open != NULL; open = strchr(open + 1, '(')) {
        if (open > printed && open[-1] == 'd') { /* around( */
            continue;
        }
        char *without = chp_arena_strdup(arena, printed);
        int depth = 0;
        bool quoted = false;
        for (size_t i = (size_t)(open - printed); without[i] != '\0'; i++) {
            quoted ^= without[i] == '"';
            depth += quoted ? 0 : without[i] == '(' ? 1 : without[i] == ')' ? -1 : 0;
            if (depth == 0 && without[i] == ')') {
                without[i] = ' ';
                break;
            }
        }
        without[open - printed] = ' ';
        struct chp_scope *scope;
        struct chp_error error = {0};
        if (chp_scope_parse(without, arena, &scope, &error) == 0) {
            assert_string_not_equal(chp_scope_print(scope, arena), printed);
        }
    }
}

static void random_scopes_print_stably(void **state)
{
    (void)state;
    uint64_t seed = 20260501;
    size_t resolved_text = 0;
    for (int i = 0; i < 3000; i++) {
        struct chp_buf text = {0};
        struct chp_arena arena = {0};
        struct chp_error error = {0};
        struct chp_scope *scope;
        random_scope(&seed, &text);
        int code = chp_scope_parse(chp_buf_text(&text), &arena, &scope, &error);
        if (code != 0) {
            fail_msg("%s: %s", chp_buf_text(&text), error.text);
        }
        char *printed = chp_scope_print(scope, &arena);
        struct chp_scope *again;
        assert_int_equal(chp_scope_parse(printed, &arena, &again, &error), 0);
        assert_string_equal(chp_scope_print(again, &arena), printed);
        assert_true(parentheses(printed) <= parentheses(chp_buf_text(&text)));
        check_parentheses_needed(printed, &arena);
        check_members_known(scope, &arena);
        resolved_text += text.len;
        chp_arena_deinit(&arena);
        chp_buf_deinit(&text);
    }
    assert_true(resolved_text > 3000); /* the generator did generate */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_scopes_print_canonically),
        cmocka_unit_test(invalid_scopes_name_the_character),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(the_tree_is_as_written),
        cmocka_unit_test(resolution_names_sites_or_says_why_not),
        cmocka_unit_test(many_known_sites_are_cut_in_the_sentence),
        cmocka_unit_test(explanation_has_a_line_for_each_choice),
        cmocka_unit_test(random_scopes_print_stably),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
