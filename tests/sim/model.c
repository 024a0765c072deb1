/* SPDX-License-Identifier: AGPL-3.0-only */
#include "sim/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool starts(const char *text, const char *word, const char **rest)
{
    size_t len = strlen(word);
    if (strncmp(text, word, len) != 0 || (text[len] != ' ' && text[len] != 0)) {
        return false;
    }
    *rest = text + len + (text[len] == ' ');
    return true;
}

static void clear(struct sim_app *app)
{
    *app = (struct sim_app){.kind = app->kind};
}

static bool run_map(struct sim_app *app, const char *command)
{
    const char *rest;
    bool back = starts(command, "back", &rest);
    bool puts = !back && starts(command, "put", &rest);
    if (!back && !puts && !starts(command, "remove", &rest)) {
        return false;
    }
    size_t key = (size_t)(rest[0] - 'a');
    size_t number = back || puts ? strtoul(rest + 3, NULL, 10) : 0;
    if (key >= SIM_MAP_KEYS || number >= SIM_VALUES_MAX) {
        return false;
    }
    char *value = app->values[key];
    char *before = app->before[key][number];
    if (back) {
        memcpy(value, before, SIM_VALUE_BYTES);
        return true;
    }
    if (puts) {
        memcpy(before, value, SIM_VALUE_BYTES);
    }
    (void)snprintf(value, SIM_VALUE_BYTES, "%s", puts ? rest + 2 : "");
    return true;
}

/* Takes the last text away again. */
static void cut(struct sim_app *app, const char *text)
{
    char *last = NULL;
    for (char *at = app->text; (at = strstr(at, text)) != NULL; at++) {
        last = at;
    }
    if (last != NULL) {
        memmove(last, last + strlen(text), strlen(last + strlen(text)) + 1);
    }
}

static bool run_file(struct sim_app *app, const char *command)
{
    const char *rest;
    if (starts(command, "write", &rest)) {
        app->text[0] = 0;
    } else if (starts(command, "cut", &rest)) {
        cut(app, rest);
        return true;
    } else if (!starts(command, "append", &rest)) {
        return false;
    }
    size_t len = strlen(app->text);
    CHP_ASSERT(len + strlen(rest) < sizeof app->text);
    (void)snprintf(app->text + len, sizeof app->text - len, "%s", rest);
    return true;
}

bool sim_app_run(struct sim_app *app, const char *command)
{
    const char *rest;
    if (strcmp(command, "clear") == 0 || strcmp(command, "delete") == 0) {
        clear(app);
        return true;
    }
    switch (app->kind) {
    case SIM_REGISTER:
        if (starts(command, "set", &rest)) {
            (void)snprintf(app->value, sizeof app->value, "%s", rest);
            return true;
        }
        return false;
    case SIM_COUNTER:
        if (starts(command, "set", &rest)) {
            app->number = strtol(rest, NULL, 10);
            return true;
        }
        if (starts(command, "add", &rest)) {
            app->number += strtol(rest, NULL, 10);
            return true;
        }
        return false;
    case SIM_MAP:
        return run_map(app, command);
    case SIM_FILE:
        return run_file(app, command);
    }
    return false;
}

void sim_app_print(const struct sim_app *app, struct chp_buf *out)
{
    switch (app->kind) {
    case SIM_REGISTER:
        chp_buf_printf(out, "\"%s\"", app->value);
        break;
    case SIM_COUNTER:
        chp_buf_printf(out, "%ld", app->number);
        break;
    case SIM_MAP:
        chp_buf_add_byte(out, '{');
        for (int i = 0; i < SIM_MAP_KEYS; i++) {
            if (app->values[i][0] != 0) {
                chp_buf_printf(out, " %c=%s", 'a' + i, app->values[i]);
            }
        }
        chp_buf_add_text(out, " }");
        break;
    case SIM_FILE:
        chp_buf_printf(out, "\"%s\"", app->text);
        break;
    }
}

bool sim_app_equal(const struct sim_app *a, const struct sim_app *b)
{
    struct chp_buf texts[2] = {{0}};
    sim_app_print(a, &texts[0]);
    sim_app_print(b, &texts[1]);
    bool equal = strcmp(chp_buf_text(&texts[0]), chp_buf_text(&texts[1])) == 0;
    chp_buf_deinit(&texts[0]);
    chp_buf_deinit(&texts[1]);
    return equal;
}

static void set(struct sim_command *command, const char *type, const char *text, const char *undo)
{
    (void)snprintf(command->type, sizeof command->type, "%s", type);
    (void)snprintf(command->text, sizeof command->text, "%s", text);
    (void)snprintf(command->undo, sizeof command->undo, "%s", undo);
}

void sim_command_draw(struct sim_rng *rng, enum sim_app_kind kind, bool commuting, unsigned n,
                      struct sim_command *command)
{
    char text[SIM_COMMAND_BYTES];
    char undo[SIM_COMMAND_BYTES] = "";
    char type[SIM_TYPE_BYTES];
    bool often = sim_rng_chance(rng, 70);
    bool with_undo = sim_rng_chance(rng, 60);
    unsigned draw = (unsigned)sim_rng_next(rng);
    char key = (char)('a' + draw % SIM_MAP_KEYS);
    if (sim_rng_chance(rng, 3) && !commuting) {
        set(command, "delete", "delete", "");
        return;
    }
    switch (kind) {
    case SIM_REGISTER:
        (void)snprintf(text, sizeof text, "set v%u", n);
        set(command, often ? "set" : "clear", often ? text : "clear", "");
        break;
    case SIM_COUNTER:
        often |= commuting;
        (void)snprintf(text, sizeof text, "%s %u", often ? "add" : "set", draw % 1000);
        (void)snprintf(undo, sizeof undo, "add -%u", draw % 1000);
        set(command, often ? "add" : "set", text, often && with_undo ? undo : "");
        break;
    case SIM_MAP:
        (void)snprintf(text, sizeof text, often ? "put %c v%u" : "remove %c", key, n);
        (void)snprintf(type, sizeof type, "%s-%c", often ? "put" : "remove", key);
        (void)snprintf(undo, sizeof undo, "back %c v%u", key, n);
        set(command, type, text, often && with_undo ? undo : "");
        if (sim_rng_chance(rng, 15)) {
            set(command, "clear", "clear", "");
        }
        break;
    case SIM_FILE:
        (void)snprintf(text, sizeof text, "%s [%u]", often ? "append" : "write", n);
        (void)snprintf(undo, sizeof undo, "cut [%u]", n);
        set(command, often ? "append" : "write", text, often && with_undo ? undo : "");
        break;
    }
}

#define PAIR(before, after, result)                                                                \
    "{\"Before\":\"" before "\",\"After\":\"" after "\",\"Result\":\"" result "\"}"
#define ONE                   "take-one"
#define KEEP                  "take-both-keep-order"
#define REVERSE               "take-both-reverse-order"
#define ANY                   "take-both-any-order"
#define MATRIX(version, rows) "{\"ResolutionMatrix\":[" rows "],\"version\":" version "}"

/* The last write wins, whatever it is. */
#define REGISTER                                                                                   \
    PAIR("set", "set", ONE)                                                                        \
    "," PAIR("clear", "clear", ONE) "," PAIR("set", "clear", ONE) "," PAIR("clear", "set", ONE)
#define COUNTER(after_add)                                                                         \
    PAIR("set", "set", ONE)                                                                        \
    "," PAIR("set", "add", KEEP) "," PAIR("add", "set", after_add) "," PAIR("add", "add", ANY)
/* What is not listed of "delete" is take-one both ways; here, what follows it counts beside it. */
#define DELETE(type) PAIR(type, "delete", ONE) "," PAIR("delete", type, KEEP)
#define FILE(after_append)                                                                         \
    PAIR("write", "write", ONE)                                                                    \
    "," PAIR("append", "append", KEEP) "," PAIR("write", "append",                                 \
                                                KEEP) "," PAIR("append", "write", after_append)
/* Of one key the last one wins, keys have nothing to do with each other. */
#define MAP_KEY(key)                                                                               \
    PAIR("put-" key, "put-" key, ONE)                                                              \
    "," PAIR("put-" key, "remove-" key, ONE) "," PAIR("remove-" key, "put-" key, ONE) "," PAIR(    \
        "remove-" key, "remove-" key,                                                              \
        ONE) "," PAIR("put-" key, "clear",                                                         \
                      ONE) "," PAIR("remove-" key, "clear",                                        \
                                    ONE) "," PAIR("clear", "put-" key,                             \
                                                  KEEP) "," PAIR("clear", "remove-" key, KEEP)
#define MAP_KEYS(one, other)                                                                       \
    PAIR("put-" one, "put-" other, ANY)                                                            \
    "," PAIR("put-" one, "remove-" other, ANY) "," PAIR("remove-" one, "remove-" other, ANY)
#define MAP                                                                                        \
    MAP_KEY("a")                                                                                   \
    "," MAP_KEY("b") "," MAP_KEYS("a", "b") "," MAP_KEYS("b", "a") "," PAIR(                       \
        "clear", "clear", ONE) "," DELETE("clear")

const char *sim_matrix(enum sim_app_kind kind, unsigned variant)
{
    static const char *const matrices[SIM_APP_KINDS][SIM_MATRIX_VARIANTS] = {
        [SIM_REGISTER] = {MATRIX("1", REGISTER), MATRIX("2", REGISTER), MATRIX("3", REGISTER)},
        [SIM_COUNTER] = {MATRIX("1", COUNTER(ONE)), MATRIX("2", COUNTER(REVERSE)),
                         MATRIX("1", COUNTER(REVERSE))},
        [SIM_MAP] = {MATRIX("1", MAP), MATRIX("2", MAP), MATRIX("3", MAP)},
        [SIM_FILE] = {MATRIX("1", FILE(ONE)), MATRIX("2", FILE(REVERSE)),
                      MATRIX("1", FILE(REVERSE))},
    };
    return matrices[kind][variant % SIM_MATRIX_VARIANTS];
}
