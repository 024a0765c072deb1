/* SPDX-License-Identifier: AGPL-3.0-only */
#include "sim/play.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WHY_BYTES = 4096, WORDS = 3 };

struct answer {
    bool ended;
    bool held;
    struct sim_totals totals;
    char why[WHY_BYTES];
};

static void play(const struct sim_schedule *schedule, bool trace, struct answer *answer)
{
    struct chp_buf why = {0};
    struct chp_buf text = {0};
    (void)alarm(SIM_PLAY_SECONDS);
    answer->held = sim_run(schedule, &answer->totals, trace ? &text : NULL, &why);
    (void)snprintf(answer->why, sizeof answer->why, "%s", chp_buf_text(&why));
    answer->ended = true;
    if (trace) {
        (void)fputs(chp_buf_text(&text), stdout);
        (void)fflush(stdout);
    }
    chp_buf_deinit(&why);
    chp_buf_deinit(&text);
}

/* What the engine says when it aborts goes to stderr, of which the last line is kept. */
static void explain(FILE *said, int status, struct chp_buf *why)
{
    char line[WHY_BYTES] = "";
    char last[WHY_BYTES] = "";
    rewind(said);
    while (fgets(line, sizeof line, said) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (last[0] == 0 || strstr(line, "assert") != NULL) {
            (void)snprintf(last, sizeof last, "%s", line);
        }
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        chp_buf_printf(why, "it takes longer than %d s", SIM_PLAY_SECONDS);
    } else {
        chp_buf_printf(why, "it ends with status %d: %s", status, last);
    }
}

bool sim_play_apart(const struct sim_schedule *schedule, struct sim_totals *totals, bool trace,
                    struct chp_buf *why)
{
    struct answer *answer =
        mmap(NULL, sizeof *answer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    FILE *said = tmpfile();
    CHP_ASSERT(answer != MAP_FAILED && said != NULL);
    (void)fflush(stdout);
    int status = 0;
    pid_t child = fork();
    CHP_ASSERT(child >= 0);
    if (child == 0) {
        (void)dup2(fileno(said), STDERR_FILENO);
        play(schedule, trace, answer);
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    bool held = answer->ended && answer->held && status == 0;
    if (held) {
        uint64_t *sum = (uint64_t *)(void *)totals;
        const uint64_t *more = (const uint64_t *)(const void *)&answer->totals;
        for (size_t i = 0; i < sizeof *totals / sizeof *sum; i++) {
            sum[i] += more[i];
        }
    } else if (answer->ended) {
        chp_buf_add_text(why, answer->why);
    } else {
        explain(said, status, why);
    }
    (void)fclose(said);
    (void)munmap(answer, sizeof *answer);
    return held;
}

/* The first words of a failure without names and numbers: a shorter schedule that fails with other
 * words has found something else. */
static void words_of(const char *why, char *words, size_t size)
{
    size_t len = 0;
    unsigned count = 0;
    const char *at = strstr(why, "faults: ");
    for (at = at == NULL ? why : at + strlen("faults: "); *at != 0 && count < WORDS;) {
        size_t word = strcspn(at, " ");
        if (strspn(at, "abcdefghijklmnopqrstuvwxyz") >= word && word > 1 && len + word + 2 < size) {
            memcpy(words + len, at, word);
            len += word;
            words[len++] = ' ';
            count++;
        }
        at += word + (at[word] == ' ');
    }
    words[len] = 0;
}

static bool still_fails(const struct sim_schedule *schedule, const char *words)
{
    struct sim_totals totals = {0};
    struct chp_buf why = {0};
    char now[WHY_BYTES];
    bool held = sim_play_apart(schedule, &totals, false, &why);
    words_of(chp_buf_text(&why), now, sizeof now);
    chp_buf_deinit(&why);
    return !held && strcmp(words, now) == 0;
}

/* Without count actions from first on. */
static void without(const struct sim_schedule *schedule, size_t first, size_t count,
                    struct sim_schedule *out)
{
    *out = *schedule;
    memmove(&out->actions[first], &out->actions[first + count],
            (out->count - first - count) * sizeof out->actions[0]);
    out->count -= count;
}

/* Halves, then quarters, ... then single actions, until none can go. */
static void take_away(struct sim_schedule *schedule, const char *words)
{
    size_t step = schedule->count / 2;
    while (step > 0) {
        bool any = false;
        for (size_t at = 0; at + step <= schedule->count;) {
            struct sim_schedule shorter;
            without(schedule, at, step, &shorter);
            if (still_fails(&shorter, words)) {
                *schedule = shorter;
                any = true;
            } else {
                at += step;
            }
        }
        step = any && step == 1 ? 1 : step / 2;
    }
}

/* Actions that are simpler: a command that does not fail, a fault that is shorter. */
static void simplify(struct sim_schedule *schedule, const char *words)
{
    for (size_t i = 0; i < schedule->count; i++) {
        struct sim_schedule simpler = *schedule;
        struct sim_action *action = &simpler.actions[i];
        if (action->kind == SIM_REQUEST) {
            action->request.fail_mask = 0;
            action->request.run_ms = 1;
        } else {
            action->for_us /= 2;
        }
        if (still_fails(&simpler, words)) {
            *schedule = simpler;
        }
    }
}

void sim_shrink(struct sim_schedule *schedule, const char *failure)
{
    char words[WHY_BYTES];
    struct sim_totals totals = {0};
    struct chp_buf why = {0};
    struct chp_buf text = {0};
    size_t before = schedule->count;
    words_of(failure, words, sizeof words);
    take_away(schedule, words);
    simplify(schedule, words);
    printf("the shortest schedule found, %zu of %zu actions, %d sites:\n", schedule->count, before,
           schedule->site_count);
    for (size_t i = 0; i < schedule->count; i++) {
        sim_action_print(&schedule->actions[i], &text);
        chp_buf_add_byte(&text, '\n');
    }
    printf("%s\nits trace:\n", chp_buf_text(&text));
    (void)sim_play_apart(schedule, &totals, true, &why);
    printf("it fails: %s\n", chp_buf_text(&why));
    chp_buf_deinit(&text);
    chp_buf_deinit(&why);
}
