/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The simulated world: sites with an engine over the in-memory store each, the network between
 * them, their applications, their clients; a virtual clock and a queue of events. One run is a
 * function of its schedule.
 */
#ifndef CHP_TESTS_SIM_WORLD_H
#define CHP_TESTS_SIM_WORLD_H

#include "base/list.h"
#include "base/map.h"
#include "engine/engine.h"
#include "sim/schedule.h"
#include "store/mem_store.h"

enum {
    SIM_OPERATIONS_MAX = 512,
    SIM_LANES = CHP_KEY_COUNT,
    SIM_SETTLE_SECONDS = 400, /* of virtual time, at most, after the last fault */
    SIM_QUIET_US = 3000000,
};

enum sim_event_kind {
    SIM_EVENT_ACTION,     /* a: its index */
    SIM_EVENT_ACTION_END, /* as above */
    SIM_EVENT_OFFER,      /* a client asks, a: index of the action */
    SIM_EVENT_TICK,       /* of a site */
    SIM_EVENT_COMMIT,     /* the store of a site has done its batch, a: its life */
    SIM_EVENT_DELIVER,    /* the head of a lane has arrived, a: the lane */
    SIM_EVENT_EFFECT,     /* a command changes the application, a: index of the run */
    SIM_EVENT_RUN_END,    /* as above */
    SIM_EVENT_RESTART,    /* of a site, a: its life */
    SIM_EVENT_CRASH,      /* an armed crash did not find its commit, a: its life */
    SIM_EVENT_RESOLVE,    /* somebody looks at what is in doubt at a site */
};

struct sim_event {
    uint64_t at_us;
    uint64_t order; /* of events at the same time */
    enum sim_event_kind kind;
    int site;
    uint64_t a;
};

/* A message on its way, or taken and not acked. */
struct sim_item {
    uint64_t delivery;
    bool settled;
    struct chp_bytes bytes;
    struct chp_item item;
};

struct sim_message {
    struct chp_list link;
    struct chp_arena arena;
    int from;
    int to;
    enum chp_key key;
    uint64_t incarnation;
    uint64_t first; /* 0: not numbered */
    struct chp_mark marks[CHP_KEY_COUNT];
    size_t mark_count;
    struct chp_beat beat;
    uint64_t sent_us;
    struct sim_item *items;
    size_t item_count;
    size_t waiting; /* items that are not settled */
};

/* The queue from a site to another with one routing key. */
struct sim_lane {
    struct chp_list messages;
    uint64_t last_us; /* the last one arrives then */
};

struct sim_ready {
    struct chp_list link;
    uint64_t number;
    size_t len;
    uint8_t bytes[];
};

/* A stream as the sender has it (the agent's is daemon/sender.c). */
struct sim_out {
    bool started;
    uint64_t last;
    uint64_t sent;
    uint64_t mark;
    uint64_t ready_last;
    struct chp_list ready;
    bool loading;
    bool reload;
    uint64_t moved_us;
    uint64_t probe_us;
};

/* One run of a command, as the driver knows it. */
struct sim_run {
    int operation; /* index in sim.operations */
    int resource;
    uint32_t run;
    bool undo;
    bool effected;
    bool ended;     /* its completion is known to the driver */
    bool lost;      /* the machine went down before it ended: it is in doubt */
    bool forgotten; /* its result is committed */
    bool old;       /* of a database that was lost since */
    bool fails;
    char command[SIM_COMMAND_BYTES];
};

struct sim_site {
    struct sim *sim;
    int index;
    const char *name;
    struct chp_engine_config config;
    struct chp_engine_peer peers[SIM_SITES_MAX];
    struct chp_engine *engine;
    bool started;    /* its load is in */
    bool down;       /* no agent runs */
    bool store_down; /* no database answers */
    uint64_t life;   /* of the agent and its connection to the store: rises */
    uint64_t incarnations;
    struct chp_store *store;
    struct chp_effects *open;
    struct chp_effects *in_flight;
    uint64_t serial;
    struct chp_high_water known; /* the high-water file */
    struct chp_taken taken[SIM_SITES_MAX];
    const char *regressed;
    uint64_t regressed_incarnation;
    struct sim_out out[SIM_SITES_MAX][2]; /* operations, acks */
    struct chp_list hand;                 /* messages taken and not acked */
    struct sim_rng rng;
    int64_t clock_ms;
    unsigned slow;                  /* how many faults make it so */
    const struct sim_action *armed; /* a crash with the next commit */
    bool crashes;                   /* it is to crash, when the event is over */
    const struct sim_action *why;   /* it crashed */
    struct chp_store *backup;
    bool database_lost; /* its database was put back or lost, once or more */
    uint64_t event_last;
    bool event_gap; /* numbers may have been passed over: a crash, a reset */
    struct sim_app apps[SIM_RESOURCES_MAX];
    struct sim_run *runs;
    size_t run_count;
    size_t run_cap;
    bool looking; /* a RESOLVE event is queued */
};

enum sim_client_state { SIM_CLIENT_NEW, SIM_CLIENT_WAITS, SIM_CLIENT_ACCEPTED, SIM_CLIENT_REFUSED };

struct sim_client {
    enum sim_client_state state;
    unsigned tries;
    bool offered; /* to the engine that there is now */
    struct chp_request *request;
    char error[128];
};

/* What the simulator knows of an operation. */
struct sim_operation {
    struct chp_uuid id;
    int action;   /* index; -1: of the agents themselves */
    int resource; /* -1 unknown */
    int origin;
    bool accepted;              /* a client was told so */
    bool held[SIM_SITES_MAX];   /* in the database of the site */
    bool backed[SIM_SITES_MAX]; /* in its backup */
    bool may_be_lost;           /* no database had it any more */
    unsigned failures[SIM_SITES_MAX];
    struct chp_bytes item; /* as it was stored last: with its last dot */
    char label[16];
};

struct sim_totals {
    uint64_t requests;
    uint64_t accepted;
    uint64_t refused;
    uint64_t runs;
    uint64_t runs_again;
    uint64_t messages;
    uint64_t lost;
    uint64_t doubled;
    uint64_t commits;
    uint64_t resolved;
    uint64_t dead;
    uint64_t diverged;
    uint64_t virtual_us;
    uint64_t faults[SIM_ACTION_KINDS];
};

struct sim {
    const struct sim_schedule *schedule;
    uint64_t now_us;
    uint64_t busy_us; /* something other than heartbeats happened */
    bool calm;        /* the faults are over */
    struct sim_event *heap;
    size_t event_count;
    size_t event_cap;
    uint64_t event_order;
    struct sim_site sites[SIM_SITES_MAX];
    struct sim_lane lanes[SIM_SITES_MAX][SIM_SITES_MAX][SIM_LANES];
    struct sim_rng link_rng[SIM_SITES_MAX][SIM_SITES_MAX];
    unsigned cut[SIM_SITES_MAX][SIM_SITES_MAX];
    unsigned lossy[SIM_SITES_MAX]; /* percent, from the site */
    unsigned slow_link[SIM_SITES_MAX];
    struct sim_client clients[SIM_ACTIONS_MAX];
    struct sim_operation operations[SIM_OPERATIONS_MAX];
    size_t operation_count;
    struct chp_map *by_id; /* id -> struct sim_operation * */
    uint64_t next_delivery;
    struct chp_arena arena; /* of requests */
    struct sim_totals totals;
    struct chp_buf *trace;  /* NULL: none is wanted */
    struct chp_buf failure; /* empty: none yet */
};

/* Runs the schedule. Returns whether everything held; else *failure says what did not. totals are
 * added to. trace may be NULL. */
bool sim_run(const struct sim_schedule *schedule, struct sim_totals *totals, struct chp_buf *trace,
             struct chp_buf *failure);

/* world.c */
void sim_after(struct sim *sim, uint64_t delay_us, enum sim_event_kind kind, int site, uint64_t a);
void sim_trace(struct sim *sim, const struct sim_site *site, const char *format, ...)
    CHP_PRINTF(3, 4);
/* The first one counts. */
void sim_fail(struct sim *sim, const char *format, ...) CHP_PRINTF(2, 3);
/* NULL: the simulator has not seen it. */
struct sim_operation *sim_operation_of(struct sim *sim, const struct chp_uuid *id);
struct sim_operation *sim_operation_add(struct sim *sim, const struct chp_uuid *id, int action);
const char *sim_label(struct sim *sim, const struct chp_uuid *id);
/* Index of the resource called id; -1. */
int sim_resource_of(const struct sim *sim, const char *id);
int sim_site_of(const struct sim *sim, const char *name);

/* site.c: what the daemon does around an engine */
void sim_site_init(struct sim *sim, int index);
void sim_site_deinit(struct sim_site *site);
struct chp_now sim_site_now(const struct sim_site *site);
/* Gives the event to the engine, if it has started. */
void sim_site_step(struct sim_site *site, struct chp_event *event);
/* The end of each turn: what is open is submitted, what is ready is sent. */
void sim_site_turn(struct sim_site *site);
void sim_site_tick(struct sim_site *site);
void sim_site_commit(struct sim_site *site, uint64_t life);
/* The agent, or its machine, stops now and comes again after a while. */
void sim_site_crash(struct sim_site *site, const struct sim_action *action);
void sim_site_restart(struct sim_site *site);
void sim_site_store(struct sim_site *site, bool up, bool applied);
void sim_site_backup(struct sim_site *site);
/* The database is another one from now on (taken over): empty, or the backup. */
void sim_site_replace(struct sim_site *site, bool backup, bool keeps_file);
/* Commits a batch at once, that is not the engine's; nothing may be in flight. */
void sim_site_ask(struct sim_site *site, struct chp_batch *batch);

/* network.c */
void sim_net_init(struct sim *sim);
void sim_net_deinit(struct sim *sim);
struct sim_message *sim_message_new(struct sim_site *from, int to, enum chp_key key);
void sim_message_add(struct sim_message *message, struct chp_bytes bytes);
void sim_message_free(struct sim_message *message);
/* Takes the message. */
void sim_net_send(struct sim *sim, struct sim_message *message);
/* The head of a lane arrives, unless it can't now. */
void sim_net_arrive(struct sim *sim, int to, uint64_t lane);
/* Links, or a site, are there again. */
void sim_net_resume(struct sim *sim);
/* An item is settled: its message goes when all are. */
void sim_net_settle(struct sim_site *site, uint64_t delivery);
/* Everything in hand comes again, or is lost. */
void sim_net_hand_back(struct sim_site *site, bool lost);
void sim_net_offer_hand(struct sim_site *site);
/* Whether only heartbeats are on their way. */
bool sim_net_idle(const struct sim *sim);

/* sender.c */
void sim_sender_reset(struct sim_site *site);
void sim_sender_started(struct sim_site *site, const struct chp_after *after);
void sim_sender_item(struct sim_site *site, const struct chp_after *after);
void sim_sender_mark(struct sim_site *site, const struct chp_after *after);
void sim_sender_resend(struct sim_site *site, const struct chp_after *after);
void sim_sender_loaded(struct sim_site *site, const struct chp_load *load);
void sim_sender_pump(struct sim_site *site);
void sim_sender_tick(struct sim_site *site);

/* driver.c */
void sim_driver_start(struct sim_site *site, const struct chp_after *after);
void sim_driver_effect(struct sim_site *site, size_t index);
void sim_driver_end(struct sim_site *site, size_t index);
void sim_driver_forget(struct sim_site *site, const struct chp_uuid *operation, uint32_t run);
/* The machine went down. */
void sim_driver_lose(struct sim_site *site);
bool sim_driver_busy(const struct sim_site *site);

/* clients.c */
void sim_client_offer(struct sim *sim, size_t action);
void sim_client_reply(struct sim_site *site, uint64_t ticket, const struct chp_reply *reply);
/* Requests that wait, after the engine was thrown away: offered to the next one, or (gone: the
 * agent, too, has stopped) asked again later. */
void sim_client_lost(struct sim_site *site, bool gone);
void sim_client_offer_all(struct sim_site *site);
bool sim_client_busy(const struct sim *sim);
void sim_operator_look(struct sim_site *site);

/* check.c: whether the world is as it must be when all has settled; a sentence in *why. */
bool sim_check(struct sim *sim, struct chp_buf *why);

#endif
