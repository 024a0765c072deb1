/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The schedule of a run: an explicit list of what is asked and of what goes wrong, drawn from the
 * seed before the run. The run itself follows from the seed and the list, so that a list from which
 * actions were taken away can be played again, too.
 */
#ifndef CHP_TESTS_SIM_SCHEDULE_H
#define CHP_TESTS_SIM_SCHEDULE_H

#include "sim/model.h"

enum {
    SIM_SITES_MAX = 5,
    SIM_RESOURCES_MAX = 4,
    SIM_ACTIONS_MAX = 128,
    SIM_FOR_EVER = 1000, /* times that a command fails */
};

enum sim_action_kind {
    SIM_REQUEST,
    SIM_PARTITION,  /* sites in mask and the others don't reach each other */
    SIM_LOSSY,      /* messages from sites in mask are lost, doubled, overtaken */
    SIM_SLOW_LINK,  /* messages from sites in mask take long */
    SIM_SLOW_SITE,  /* its database and its commands take long */
    SIM_CRASH,      /* the agent, or the machine */
    SIM_STORE_DOWN, /* the database is away for a while */
    SIM_BACKUP,     /* of the database */
    SIM_DISK_LOST,  /* the database is empty */
    SIM_RESTORE,    /* the database is the last backup */
    SIM_CLOCK,      /* the wall clock jumps */
};
enum { SIM_ACTION_KINDS = SIM_CLOCK + 1 };

enum sim_direction { SIM_BOTH_WAYS, SIM_OUT_ONLY, SIM_IN_ONLY };

struct sim_action {
    enum sim_action_kind kind;
    unsigned number; /* its place in what was drawn: stays when others are taken away */
    uint64_t at_us;
    uint64_t for_us; /* faults: how long */
    int site;
    unsigned mask; /* of sites */
    union {
        struct {
            int resource;
            bool creates; /* brings scope (mask) and matrix along */
            unsigned matrix;
            bool key_given;
            struct sim_command command;
            unsigned fail_mask;  /* where the command fails, */
            unsigned fail_times; /* how often */
            unsigned run_ms;
        } request;
        enum sim_direction direction; /* PARTITION */
        unsigned percent;             /* LOSSY */
        struct {
            bool at_once;    /* else with the next commit: */
            unsigned place;  /* 0 it is lost, 1 it stands but nothing of it was done, 2 + n: n
                                effects  were done */
            bool applied;    /* at_once: a batch in flight stands */
            bool machine;    /* commands end in doubt */
            bool loses_hand; /* messages that were not acked do not come back from the broker */
        } crash;
        bool applied;    /* STORE_DOWN: the batch in flight stands */
        bool keeps_file; /* DISK_LOST, RESTORE: the high-water file is still there */
        int64_t clock_ms;
    };
};

struct sim_schedule {
    uint64_t seed;
    bool commuting;
    bool no_loss;
    int site_count;
    int resource_count;
    enum sim_app_kind kinds[SIM_RESOURCES_MAX];
    unsigned resources_cached; /* limits of the engines */
    unsigned pending_max;
    unsigned operations_kept;
    uint64_t end_us; /* no fault lasts longer */
    struct sim_action actions[SIM_ACTIONS_MAX];
    size_t count;
};

/* commuting: only commands that commute, no matrices; no_loss: databases are not lost or put back;
 * whatever else the seed says. */
void sim_schedule_draw(struct sim_schedule *schedule, uint64_t seed, bool commuting, bool no_loss);
/* One line, without its end. */
void sim_action_print(const struct sim_action *action, struct chp_buf *out);
const char *sim_action_name(enum sim_action_kind kind);
const char *sim_site_name(int site);

#endif
