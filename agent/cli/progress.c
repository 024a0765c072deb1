/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Rows are drawn below each other and later overwritten by moving the cursor up by as many; that
 * holds only while no row wraps and nothing scrolls, so rows are cut at the width, and a terminal
 * that is too low, was resized, or is dumb gets plain lines from then on. Curses was rejected: it
 * takes the screen, and three lines need none of it.
 */
#include "cli/progress.h"

#include "base/clock.h"
#include "base/mem.h"
#include "cli/text.h"
#include "wire/item.h"

#include <stdlib.h>
#include <string.h>

enum { ANSWER_WIDTH = 11 }; /* "done   4 ms": state and time */

struct row {
    const char *site;
    char *state;
    char *reason;
    char *output;
    bool output_cut;
    bool unverified;
    bool has_exit;
    int64_t exit_code;
    int64_t run;
    uint64_t elapsed_ms;
    size_t answer; /* its place among the answers, from 1; 0: none yet */
    bool printed;  /* as a plain line */
};

struct cli_progress {
    struct cli *cli;
    bool status;
    bool live;
    const char *operation;
    struct row *rows;
    size_t row_count;
    size_t name_width;
    size_t answered;
    bool completed;
    bool completed_well;
    uint64_t start_ms;
    size_t drawn;         /* rows on the screen that the cursor stands below */
    size_t drawn_columns; /* width they were drawn for */
};

struct cli_progress *cli__progress_new(struct cli *cli, const char *operation, bool status)
{
    struct cli_progress *progress = chp_alloc(sizeof *progress);
    progress->cli = cli;
    progress->operation = cli__clean(cli, operation);
    progress->status = status;
    progress->live = cli->live && !cli->json;
    progress->start_ms = chp_clock_mono_ms();
    return progress;
}

void cli__progress_free(struct cli_progress *progress)
{
    for (size_t i = 0; i < progress->row_count; i++) {
        free(progress->rows[i].state);
        free(progress->rows[i].reason);
        free(progress->rows[i].output);
    }
    free(progress);
}

const char *cli__progress_operation(const struct cli_progress *progress)
{
    return progress->operation;
}

bool cli__progress_completed(const struct cli_progress *progress)
{
    return progress->completed;
}

static bool is_final(const char *text)
{
    enum chp_state state;
    return chp_state_parse(text, &state) == 0 && chp_state_final(state);
}

/* Worth a line of its own: it ended, or somebody must decide. */
static bool is_answer(const char *state)
{
    return is_final(state) || strcmp(state, "in-doubt") == 0;
}

static struct row *find_row(struct cli_progress *progress, const char *site)
{
    for (size_t i = 0; i < progress->row_count; i++) {
        if (strcmp(progress->rows[i].site, site) == 0) {
            return &progress->rows[i];
        }
    }
    return NULL;
}

static void set_members(struct cli_progress *progress, const json_t *members)
{
    if (progress->row_count > 0) {
        return;
    }
    struct chp_arena *arena = &progress->cli->arena;
    progress->rows = chp_arena_calloc(arena, json_array_size(members), sizeof *progress->rows);
    for (size_t i = 0; i < json_array_size(members); i++) {
        const char *site = json_string_value(json_array_get(members, i));
        if (site == NULL) {
            continue;
        }
        struct row *row = &progress->rows[progress->row_count++];
        row->site = cli__clean(progress->cli, site);
        row->state = chp_strdup("accepted");
        size_t width = cli__text_width(row->site);
        progress->name_width = width > progress->name_width ? width : progress->name_width;
    }
}

/* "exit 3: reason", for what is not simply done. */
static void add_trouble(const struct cli_progress *progress, const struct row *row,
                        struct chp_buf *out)
{
    if (row->unverified) {
        chp_buf_add_text(out, " unverified");
    }
    if (!is_answer(row->state) || strcmp(row->state, "done") == 0) {
        return;
    }
    const char *reason = row->reason;
    if (row->has_exit) {
        chp_buf_printf(out, progress->status ? " status %lld" : " exit %lld",
                       (long long)row->exit_code);
        reason = cli__reason_beyond(reason, row->exit_code);
    }
    if (reason != NULL && reason[0] != 0) {
        chp_buf_add_text(out, row->has_exit ? ": " : " ");
        cli__text_escape(out, reason, strlen(reason), false);
    }
}

/* How long it took; how long it has been waited for, in tenths of a second, since more only
 * flickers. */
static void add_elapsed(const struct cli_progress *progress, const struct row *row,
                        struct chp_buf *out)
{
    uint64_t waited_ms = chp_clock_mono_ms() - progress->start_ms;
    if (row->answer > 0) {
        cli__duration_format(row->elapsed_ms, out);
    } else if (waited_ms < 10 * 1000) {
        chp_buf_printf(out, "%u.%u s", (unsigned)(waited_ms / 1000),
                       (unsigned)(waited_ms % 1000 / 100));
    } else {
        cli__duration_format(waited_ms, out);
    }
}

/* State on the left, time on the right. */
static void add_answer(const struct cli_progress *progress, const struct row *row, size_t width,
                       struct chp_buf *out)
{
    struct chp_buf elapsed = {0};
    add_elapsed(progress, row, &elapsed);
    size_t used = strlen(row->state) + elapsed.len;
    chp_buf_printf(out, "%s%*s%s", row->state, used < width ? (int)(width - used) : 1, "",
                   chp_buf_text(&elapsed));
    chp_buf_deinit(&elapsed);
}

/* "[1/3] Nantes  done   4 ms"; *state_at and *state_end delimit what gets the state's colour. */
static void compose(const struct cli_progress *progress, const struct row *row, size_t answer_width,
                    struct chp_buf *out, size_t *state_at, size_t *state_end)
{
    struct chp_buf total = {0};
    struct chp_buf place = {0};
    chp_buf_printf(&total, "[%zu/%zu]", progress->row_count, progress->row_count);
    if (row->answer > 0) {
        chp_buf_printf(&place, "[%zu/%zu]", row->answer, progress->row_count);
    } else {
        chp_buf_printf(&place, "[-/%zu]", progress->row_count);
    }
    cli__text_pad(out, chp_buf_text(&place), total.len, false);
    chp_buf_add_text(out, " ");
    cli__text_pad(out, row->site, progress->name_width, false);
    chp_buf_add_text(out, "  ");
    *state_at = out->len;
    *state_end = out->len + strlen(row->state);
    add_answer(progress, row, answer_width, out);
    add_trouble(progress, row, out);
    chp_buf_deinit(&total);
    chp_buf_deinit(&place);
}

static void print_row(const struct cli_progress *progress, const struct row *row,
                      size_t answer_width, size_t columns)
{
    struct chp_buf line = {0};
    struct chp_buf fitted = {0};
    size_t at;
    size_t end;
    compose(progress, row, answer_width, &line, &at, &end);
    cli__text_fit(&fitted, chp_buf_text(&line), columns);
    const char *text = chp_buf_text(&fitted);
    if (end > fitted.len || strncmp(text, chp_buf_text(&line), end) != 0) {
        (void)printf("%s\n", text); /* so narrow that the state itself is cut */
    } else {
        (void)printf("%.*s%s%.*s%s%s\n", (int)at, text,
                     cli__color(progress->cli, cli__state_color(row->state)), (int)(end - at),
                     text + at, cli__color(progress->cli, CLI_PLAIN), text + end);
    }
    chp_buf_deinit(&line);
    chp_buf_deinit(&fitted);
}

static void print_plain(struct cli_progress *progress, struct row *row)
{
    row->printed = true;
    print_row(progress, row, ANSWER_WIDTH, SIZE_MAX);
    if (row->output != NULL && row->output[0] != 0) {
        cli__print_output(progress->cli, row->output, row->output_cut);
    }
    (void)fflush(stdout);
}

static size_t answer_width(const struct cli_progress *progress)
{
    size_t width = ANSWER_WIDTH;
    for (size_t i = 0; i < progress->row_count; i++) {
        struct chp_buf elapsed = {0};
        add_elapsed(progress, &progress->rows[i], &elapsed);
        size_t own = strlen(progress->rows[i].state) + 1 + elapsed.len;
        width = own > width ? own : width;
        chp_buf_deinit(&elapsed);
    }
    return width;
}

static void draw(struct cli_progress *progress)
{
    size_t rows;
    size_t columns = cli__columns(&rows);
    bool moved = progress->drawn > 0 && columns != progress->drawn_columns;
    if (progress->row_count == 0) {
        return;
    }
    if (moved || progress->row_count >= rows) {
        progress->live = false;
        for (size_t i = 0; i < progress->row_count; i++) {
            if (is_answer(progress->rows[i].state)) {
                print_plain(progress, &progress->rows[i]);
            }
        }
        return;
    }
    if (progress->drawn > 0) {
        (void)printf("\033[%zuA\r", progress->drawn);
    }
    size_t width = answer_width(progress);
    for (size_t i = 0; i < progress->row_count; i++) {
        (void)fputs("\033[2K", stdout);
        print_row(progress, &progress->rows[i], width, columns - 1);
    }
    (void)fflush(stdout);
    progress->drawn = progress->row_count;
    progress->drawn_columns = columns;
}

void cli__progress_tick(struct cli_progress *progress)
{
    if (progress->live) {
        draw(progress);
    }
}

static void take_text(char **place, const char *text)
{
    free(*place);
    *place = chp_strdup(text);
}

static void read_row(struct cli_progress *progress, struct row *row, const json_t *result,
                     const char *state)
{
    json_t *exit_code = json_object_get(result, "exit_code");
    json_t *elapsed = json_object_get(result, "elapsed_ms");
    take_text(&row->state, state);
    take_text(&row->reason, cli__text(result, "reason"));
    take_text(&row->output, cli__text(result, "output"));
    row->output_cut = json_is_true(json_object_get(result, "output_cut"));
    row->unverified = json_is_true(json_object_get(result, "unverified"));
    row->exit_code = json_integer_value(exit_code);
    row->has_exit = json_is_integer(exit_code) && row->exit_code >= 0;
    row->elapsed_ms = json_is_integer(elapsed) ? (uint64_t)json_integer_value(elapsed)
                                               : chp_clock_mono_ms() - progress->start_ms;
}

static void feed_result(struct cli_progress *progress, json_t *result)
{
    const char *state = cli__text(result, "state");
    struct row *row = find_row(progress, cli__text(result, "site"));
    int64_t run = json_integer_value(json_object_get(result, "run"));
    enum chp_state ignored;
    if (row == NULL || state == NULL || chp_state_parse(state, &ignored) != 0 || run < row->run ||
        (run == row->run && (is_final(row->state) || strcmp(row->state, state) == 0))) {
        return;
    }
    read_row(progress, row, result, state);
    row->run = run;
    if (!is_answer(state)) {
        return;
    }
    if (row->answer == 0) {
        row->answer = ++progress->answered;
    }
    if (progress->cli->json) {
        cli__print_json(result);
    } else if (!progress->live) {
        print_plain(progress, row);
    }
}

/* Sites of an operation in the order in which they answered, so that a late watcher sees what an
 * early one saw. */
static void feed_sites(struct cli_progress *progress, const json_t *sites)
{
    size_t count = json_array_size(sites);
    bool *fed = chp_calloc(count, sizeof *fed);
    for (size_t n = 0; n < count; n++) {
        size_t next = count;
        json_int_t next_ms = 0;
        for (size_t i = 0; i < count; i++) {
            json_int_t ms =
                json_integer_value(json_object_get(json_array_get(sites, i), "elapsed_ms"));
            if (!fed[i] && (next == count || ms < next_ms)) {
                next = i;
                next_ms = ms;
            }
        }
        fed[next] = true;
        json_t *result = json_array_get(sites, next);
        if (cli__text(result, "site") != NULL) {
            feed_result(progress, result);
        }
    }
    free(fed);
}

static bool done_on_all(const struct cli_progress *progress)
{
    for (size_t i = 0; i < progress->row_count; i++) {
        if (strcmp(progress->rows[i].state, "done") != 0) {
            return false;
        }
    }
    return true;
}

bool cli__progress_feed(struct cli_progress *progress, json_t *object)
{
    const char *operation = cli__text(object, "operation");
    operation = operation == NULL ? cli__text(object, "id") : operation;
    if (progress->operation == NULL && operation != NULL) {
        progress->operation = cli__clean(progress->cli, operation);
    }
    if (json_is_array(json_object_get(object, "members"))) {
        set_members(progress, json_object_get(object, "members"));
    }
    bool more = !json_is_true(json_object_get(object, "timeout"));
    if (json_is_array(json_object_get(object, "sites"))) {
        feed_sites(progress, json_object_get(object, "sites"));
    } else if (cli__text(object, "site") != NULL) {
        feed_result(progress, object);
    }
    if (json_is_true(json_object_get(object, "completed"))) {
        const char *state = cli__text(object, "state");
        progress->completed = true;
        progress->completed_well = state != NULL && strcmp(state, "done") == 0;
        more = false;
    }
    cli__progress_tick(progress);
    return more;
}

static const char *and_list(struct cli_progress *progress, bool (*wanted)(const struct row *row))
{
    struct chp_buf text = {0};
    size_t left = 0;
    for (size_t i = 0; i < progress->row_count; i++) {
        left += wanted(&progress->rows[i]) ? 1 : 0;
    }
    for (size_t i = 0; i < progress->row_count; i++) {
        if (wanted(&progress->rows[i])) {
            chp_buf_printf(&text, "%s%s",
                           text.len == 0 ? ""
                           : left == 1   ? " and "
                                         : ", ",
                           progress->rows[i].site);
            left--;
        }
    }
    const char *copy = chp_arena_strdup(&progress->cli->arena, chp_buf_text(&text));
    chp_buf_deinit(&text);
    return copy;
}

static bool row_waits(const struct row *row)
{
    return !is_answer(row->state);
}

static bool row_failed(const struct row *row)
{
    return is_answer(row->state) && strcmp(row->state, "done") != 0;
}

const char *cli__progress_waiting(struct cli_progress *progress)
{
    return and_list(progress, row_waits);
}

static bool same_output(const struct row *a, const struct row *b)
{
    return b->output != NULL && strcmp(a->output, b->output) == 0 && a->output_cut == b->output_cut;
}

/* Below the rows: each different output once, under the names of the sites that gave it. */
static void print_outputs(struct cli_progress *progress)
{
    struct cli *cli = progress->cli;
    for (size_t i = 0; i < progress->row_count; i++) {
        struct row *row = &progress->rows[i];
        if (row->printed || row->output == NULL || row->output[0] == 0) {
            continue;
        }
        (void)printf("%s%s", cli__color(cli, CLI_BOLD), row->site);
        for (size_t j = i + 1; j < progress->row_count; j++) {
            if (!progress->rows[j].printed && same_output(row, &progress->rows[j])) {
                progress->rows[j].printed = true;
                (void)printf(", %s", progress->rows[j].site);
            }
        }
        (void)printf(":%s\n", cli__color(cli, CLI_PLAIN));
        cli__print_output(cli, row->output, row->output_cut);
    }
}

int cli__progress_end(struct cli_progress *progress)
{
    if (progress->live) {
        draw(progress);
    }
    if (progress->live) {
        print_outputs(progress);
    }
    (void)fflush(stdout);
    bool waits = cli__progress_waiting(progress)[0] != 0;
    if (progress->completed ? progress->completed_well
                            : !waits && progress->row_count > 0 && done_on_all(progress)) {
        return CLI_OK;
    }
    if (!progress->completed && waits) {
        return CLI_TIMEOUT;
    }
    const char *failed = and_list(progress, row_failed);
    return cli__fail(CLI_FAILED, "not done on %s; see: cheops op show %s",
                     failed[0] == 0 ? "some site" : failed, progress->operation);
}
