/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The shell driver's place taken by one that does nothing: every run is done in the next turn of
 * the loop. It has the interface of shell/shell_driver.h, so that the agent of the benchmark is the
 * daemon's own library linked with this instead of chp_shell: the real agent knows nothing of it.
 */
#include "shell/shell_driver.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"

#include <stdlib.h>

struct noop_run {
    struct chp_list link;
    struct chp_uuid operation;
    uint32_t run;
    chp_completion_fn *on_done;
    void *user;
};

struct noop_driver {
    struct chp_driver driver;
    struct chp_list runs;
    struct event *turn;
};

static struct noop_driver *from(struct chp_driver *driver)
{
    return CHP_CONTAINER(driver, struct noop_driver, driver);
}

static void noop_on_turn(evutil_socket_t fd, short what, void *user)
{
    struct noop_driver *noop = user;
    (void)fd;
    (void)what;
    CHP_LIST_FOREACH_SAFE(&noop->runs, link, following)
    {
        struct noop_run *run = CHP_CONTAINER(link, struct noop_run, link);
        struct chp_completion completion = {
            .operation = run->operation,
            .run = run->run,
            .state = CHP_STATE_DONE,
            .started_ms = chp_clock_wall_ms(),
        };
        chp_list_remove(&run->link);
        run->on_done(run->user, &completion);
        free(run);
    }
}

static int noop_check(struct chp_driver *driver, struct chp_bytes payload,
                      const struct chp_file *files, size_t file_count, struct chp_error *error)
{
    (void)driver;
    (void)payload;
    (void)files;
    (void)file_count;
    (void)error;
    return 0;
}

static void noop_start(struct chp_driver *driver, const struct chp_run *run,
                       chp_completion_fn *on_done, void *user)
{
    struct noop_driver *noop = from(driver);
    struct noop_run *started = chp_alloc(sizeof *started);
    started->operation = run->operation;
    started->run = run->run;
    started->on_done = on_done;
    started->user = user;
    chp_list_append(&noop->runs, &started->link);
    event_active(noop->turn, EV_TIMEOUT, 0);
}

static void noop_ignore(struct chp_driver *driver, const struct chp_uuid *operation, uint32_t run)
{
    (void)driver;
    (void)operation;
    (void)run;
}

static void noop_free(struct chp_driver *driver)
{
    struct noop_driver *noop = from(driver);
    CHP_LIST_FOREACH_SAFE(&noop->runs, link, following)
    {
        chp_list_remove(link);
        free(CHP_CONTAINER(link, struct noop_run, link));
    }
    event_free(noop->turn);
    free(noop);
}

static const struct chp_driver_vtable vtable = {.name = "shell",
                                                .check = noop_check,
                                                .start = noop_start,
                                                .cancel = noop_ignore,
                                                .forget = noop_ignore,
                                                .free = noop_free};

struct chp_driver *chp_shell_driver_new(const struct chp_shell_config *config,
                                        struct chp_error *error)
{
    struct noop_driver *noop = chp_alloc(sizeof *noop);
    (void)error;
    noop->driver.vtable = &vtable;
    chp_list_init(&noop->runs);
    noop->turn = event_new(config->base, -1, 0, noop_on_turn, noop);
    CHP_ASSERT(noop->turn != NULL);
    return &noop->driver;
}

void chp_shell_driver_reload(struct chp_driver *driver, const struct chp_shell_config *config)
{
    (void)driver;
    (void)config;
}
