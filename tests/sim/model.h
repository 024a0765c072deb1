/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Model applications: what a site's command line would change, as a few bytes. Their commands are
 * small texts, most of which do not commute.
 *
 *     register   set V, clear
 *     counter    add N, set N                 (undo of add N: add -N)
 *     map        put K V, remove K, clear     (types put-K, remove-K, clear; undo of put K V: back
 * K V, which makes K what it was before: right only from the last to the first) file       append
 * T, write T            (undo of append T: cut T)
 *
 * and "delete" for each, which leaves nothing.
 */
#ifndef CHP_TESTS_SIM_MODEL_H
#define CHP_TESTS_SIM_MODEL_H

#include "base/buf.h"
#include "sim/rng.h"

enum sim_app_kind { SIM_REGISTER, SIM_COUNTER, SIM_MAP, SIM_FILE };
enum {
    SIM_APP_KINDS = SIM_FILE + 1,
    SIM_COMMAND_BYTES = 32,
    SIM_TYPE_BYTES = 16,
    SIM_FILE_BYTES = 2048,
    SIM_MAP_KEYS = 2,
    SIM_VALUES_MAX = 64, /* v0, v1, ... */
    SIM_VALUE_BYTES = 8,
};

struct sim_app {
    enum sim_app_kind kind;
    long number;
    char value[SIM_COMMAND_BYTES];
    char values[SIM_MAP_KEYS][SIM_VALUE_BYTES];
    char before[SIM_MAP_KEYS][SIM_VALUES_MAX][SIM_VALUE_BYTES]; /* each value was put there */
    char text[SIM_FILE_BYTES];
};

/* An operation as it is asked for: its type, its command, and the command that takes it back (""
 * for none). */
struct sim_command {
    char type[SIM_TYPE_BYTES];
    char text[SIM_COMMAND_BYTES];
    char undo[SIM_COMMAND_BYTES];
};

/* Runs a command; false when the application does not know it. */
bool sim_app_run(struct sim_app *app, const char *command);
void sim_app_print(const struct sim_app *app, struct chp_buf *out);
bool sim_app_equal(const struct sim_app *a, const struct sim_app *b);

/* The n-th operation on such an application; commuting: only such that commute. */
void sim_command_draw(struct sim_rng *rng, enum sim_app_kind kind, bool commuting, unsigned n,
                      struct sim_command *command);
/* A resolution matrix, as JSON, that tells the truth about the commands of this kind: pairs that it
 * calls any-order commute, and where it says take-one or reverse-order, the one after leaves
 * nothing of the one before. */
const char *sim_matrix(enum sim_app_kind kind, unsigned variant);
enum { SIM_MATRIX_VARIANTS = 3 };

#endif
