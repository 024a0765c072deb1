/* SPDX-License-Identifier: AGPL-3.0-only */
#include "daemon/setup.h"

#include "daemon/daemon.h"
#include "daemon/high_water.h"

#include "broker/amqp_broker.h"
#include "http/http_driver.h"
#include "shell/shell_driver.h"
#include "store/pg_store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { DRAIN_LOOK_MS = 20, DRAIN_LOOKS_MAX = 250 };

/* Each attempt is a process: never as often as the database's own connection is tried. */
enum {
    MIGRATE_RETRY_FLOOR_MS = 500,
    MIGRATE_RETRY_FIRST_MS = 2 * 1000,
    MIGRATE_RETRY_MAX_MS = 5 * 1000,
};

/* The daemon itself and what only wiring needs. */
struct daemon {
    struct chp_agent agent;
    struct chp_config *config;  /* of the start: parts may borrow from it */
    struct chp_config reloaded; /* the latest, when there was a reload */
    char path[4096];            /* of the configuration, absolute */
    char runner[4096];
    struct chp_arena tokens_arena;
    struct chp_http_token *tokens;
    size_t token_count;
    struct event *signals[3];
    struct event *drain; /* once it stops */
    unsigned drain_looks;
    struct event *migrate_retry;
    struct chp_backoff migrate_backoff;
    struct event *migrate_exit;
    pid_t migrate_pid;
    int migrate_pidfd;
    int migrate_output;
};

/* systemd's notification protocol: one datagram to the socket named in the environment. */
static void notify(const char *text)
{
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (name == NULL || name[0] == 0 || strlen(name) >= sizeof address.sun_path) {
        return;
    }
    size_t len = strlen(name);
    memcpy(address.sun_path, name, len);
    if (name[0] == '@') {
        address.sun_path[0] = 0;
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
        (void)close(fd);
    }
}

static void broker_on_up(void *user)
{
    struct chp_agent *agent = user;
    agent->metrics.broker_up = 1;
    agent->broker_problem[0] = 0;
    agent->broker_lost_ms = 0;
    chp_log_info("broker is up", CHP_I("sites", agent->engine_config.peer_count + 1));
    inbound__pump(agent->inbound);
    sender__pump(agent->sender);
    publisher__pump(agent->publisher);
    replies__pump(agent->replies);
    chp_blobs_drained(agent->blobs);
}

static void broker_on_down(void *user, const struct chp_error *error)
{
    struct chp_agent *agent = user;
    agent->broker_lost_ms = agent->metrics.broker_up != 0 || agent->broker_lost_ms == 0
                                ? chp_clock_wall_ms()
                                : agent->broker_lost_ms;
    agent->metrics.broker_up = 0;
    agent->blocked_ms = 0;
    agent->broker_blocked = false;
    agent->metrics.broker_blocked = 0;
    (void)snprintf(agent->broker_problem, sizeof agent->broker_problem, "%s", error->text);
    chp_log_warn("broker is down", CHP_S("error", error->text));
}

static void broker_on_blocked(void *user, bool blocked, const char *reason)
{
    struct chp_agent *agent = user;
    agent->broker_blocked = blocked;
    agent->blocked_ms = blocked ? chp_clock_wall_ms() : 0;
    agent->metrics.broker_blocked = blocked;
    if (blocked) {
        chp_log_warn("broker stops publishing", CHP_S("reason", reason));
    } else {
        chp_log_info("broker takes messages again", CHP_S("reason", ""));
        sender__pump(agent->sender);
        publisher__pump(agent->publisher);
        replies__pump(agent->replies);
        inbound__pump(agent->inbound);
        chp_blobs_drained(agent->blobs);
    }
}

static void broker_on_settled(void *user, uint64_t token, enum chp_outcome outcome)
{
    struct chp_agent *agent = user;
    switch (token >> TOKEN_SHIFT) {
    case TOKEN_STREAM:
        sender__settled(agent->sender, token, outcome);
        break;
    case TOKEN_DEAD:
        (void)inbound__settled(agent->inbound, token, outcome);
        break;
    case TOKEN_EVENT:
        (void)publisher__settled(agent->publisher, token, outcome);
        break;
    case TOKEN_REPLY:
        replies__settled(agent->replies, token, outcome);
        break;
    default: /* 0: nobody asked to be told */
        break;
    }
}

static void broker_on_drained(void *user)
{
    struct chp_agent *agent = user;
    sender__pump(agent->sender);
    publisher__pump(agent->publisher);
    replies__pump(agent->replies);
    inbound__pump(agent->inbound);
    chp_blobs_drained(agent->blobs);
}

static int blobs_send(void *user, const char *site, enum chp_key key, const struct chp_item *item)
{
    return sender__control(user, site, key, item, 60000);
}

static void agent_on_tick(evutil_socket_t fd, short what, void *user)
{
    struct chp_agent *agent = user;
    (void)fd;
    (void)what;
    struct chp_event event = {.kind = CHP_EVENT_TICK};
    if (agent->engine_started) {
        turn__step(agent, &event);
    }
    sender__tick(agent->sender);
    publisher__tick(agent->publisher);
    replies__tick(agent->replies);
    inbound__pump(agent->inbound);
    high_water__tick(agent->high_water);
    sweep__tick(agent->sweep);
    census__tick(agent->census);
}

static void agent_on_beat(evutil_socket_t fd, short what, void *user)
{
    (void)fd;
    (void)what;
    sender__beats(user);
}

static struct event *timer(struct event_base *base, uint64_t interval_ms,
                           event_callback_fn callback, void *user)
{
    struct timeval interval = {.tv_sec = (time_t)(interval_ms / 1000),
                               .tv_usec = (suseconds_t)(interval_ms % 1000 * 1000)};
    struct event *event = event_new(base, -1, EV_PERSIST, callback, user);
    CHP_ASSERT(event != NULL);
    (void)event_add(event, &interval);
    return event;
}

static struct chp_shell_config shell_config(struct daemon *daemon, const struct chp_config *config,
                                            const char *spool)
{
    return (struct chp_shell_config){
        .base = daemon->agent.base,
        .runner = daemon->runner,
        .spool = spool,
        .allow = config->shell.allow.items,
        .allow_count = config->shell.allow.count,
        .user = config->shell.user,
        .path = config->shell.path,
        .environment = config->shell.environment.items,
        .environment_count = config->shell.environment.count,
        .concurrency_max = (unsigned)config->shell.concurrency_max,
        .memory_max_bytes = config->shell.memory_max_bytes,
        .processes_max = (unsigned)config->shell.processes_max,
    };
}

static struct chp_http_driver_config rest_config(struct daemon *daemon,
                                                 const struct chp_config *config,
                                                 struct chp_arena *arena)
{
    struct chp_http_service *services =
        chp_arena_calloc(arena, config->service_count, sizeof *services);
    for (size_t i = 0; i < config->service_count; i++) {
        services[i] = (struct chp_http_service){.name = config->services[i].name,
                                                .url = config->services[i].url,
                                                .success = config->services[i].success,
                                                .ca_file = config->services[i].ca_file};
    }
    return (struct chp_http_driver_config){
        .base = daemon->agent.base,
        .site = daemon->config->agent.site,
        .services = services,
        .service_count = config->service_count,
        .concurrency_max = (unsigned)config->rest.concurrency_max,
        .connect_timeout_ms = config->rest.connect_timeout_ms,
    };
}

static struct chp_http_config door_config(struct daemon *daemon, const struct chp_config *config)
{
    const char *listen = config->http.listen;
    return (struct chp_http_config){
        .base = daemon->agent.base,
        .listen = listen == NULL || strcmp(listen, "none") == 0 ? NULL : listen,
        .socket_path = config->http.socket,
        .socket_uids = config->http.socket_uid_numbers,
        .socket_uid_count = config->http.socket_uids.count,
        .tokens = daemon->tokens,
        .token_count = daemon->token_count,
        .hosts = config->http.hosts.items,
        .host_count = config->http.hosts.count,
        .connections_max = config->http.connections_max,
        .body_max_bytes = config->http.body_max_bytes,
        .json_max_bytes = config->http.json_max_bytes,
        .idle_timeout_ms = config->http.idle_timeout_ms,
    };
}

static int load_tokens(struct daemon *daemon, const struct chp_config *config,
                       struct chp_error *error)
{
    struct chp_arena arena = {0};
    struct chp_config_token *tokens = NULL;
    size_t count = 0;
    if (config->http.token_file != NULL) {
        int code = chp_config_tokens_load(config->http.token_file, &arena, &tokens, &count, error);
        if (code != 0) {
            chp_arena_deinit(&arena);
            return code;
        }
    }
    struct chp_http_token *pairs = chp_arena_calloc(&arena, count, sizeof *pairs);
    for (size_t i = 0; i < count; i++) {
        pairs[i] = (struct chp_http_token){.name = tokens[i].principal, .token = tokens[i].token};
    }
    chp_arena_deinit(&daemon->tokens_arena);
    daemon->tokens_arena = arena;
    daemon->tokens = pairs;
    daemon->token_count = count;
    return 0;
}

static void reload(struct daemon *daemon)
{
    struct chp_config config = {0};
    struct chp_error error = {0};
    struct chp_arena arena = {0};
    struct chp_config_diff diff = {0};
    if (chp_config_load(daemon->path, &config, &error) != 0 ||
        load_tokens(daemon, &config, &error) != 0) {
        chp_log_error("configuration not reloaded", CHP_S("error", error.text));
        chp_config_deinit(&config);
        return;
    }
    chp_config_diff(daemon->agent.config, &config, &arena, &diff);
    for (size_t i = 0; i < diff.restart_count; i++) {
        chp_log_warn("changed option needs a restart", CHP_S("option", diff.restart[i]));
    }
    struct chp_shell_config shell = shell_config(daemon, &config, NULL);
    struct chp_http_driver_config rest = rest_config(daemon, &config, &arena);
    struct chp_http_config door = door_config(daemon, &config);
    chp_shell_driver_reload(daemon->agent.drivers[0], &shell);
    chp_http_driver_reload(daemon->agent.drivers[1], &rest);
    chp_http_door_reload(daemon->agent.door, &door);
    chp_log_setup((enum chp_log_level)config.agent.log_level, daemon->config->agent.site);
    chp_log_info("configuration reloaded", CHP_I("changed", diff.reload_count));
    chp_arena_deinit(&arena);
    chp_config_deinit(&daemon->reloaded);
    daemon->reloaded = config;
    daemon->agent.policy = &daemon->reloaded;
}

/* What was taken through the HTTP door is answered before the agent goes: its client would else not
 * know whether it was accepted. Everything else is safe where it is. */
static void daemon_on_drain(evutil_socket_t fd, short what, void *user)
{
    struct daemon *daemon = user;
    (void)fd;
    (void)what;
    if (!chp_http_door_busy(daemon->agent.door) || ++daemon->drain_looks >= DRAIN_LOOKS_MAX) {
        (void)event_base_loopbreak(daemon->agent.base);
    }
}

static void daemon_on_signal(evutil_socket_t signal_number, short what, void *user)
{
    struct daemon *daemon = user;
    (void)what;
    if (signal_number == SIGHUP) {
        notify("RELOADING=1");
        reload(daemon);
        notify("READY=1");
        return;
    }
    chp_log_info("stopping", CHP_I("signal", signal_number));
    notify("STOPPING=1");
    if (daemon->agent.stopping) { /* asked again */
        (void)event_base_loopbreak(daemon->agent.base);
        return;
    }
    daemon->agent.stopping = true;
    chp_http_door_stop(daemon->agent.door);
    daemon->drain = timer(daemon->agent.base, DRAIN_LOOK_MS, daemon_on_drain, daemon);
}

static void open_store(struct daemon *daemon)
{
    struct chp_agent *agent = &daemon->agent;
    const struct chp_config *config = daemon->config;
    struct chp_error error = {0};
    struct chp_pg_config pg = {.dsn = config->database.dsn,
                               .base = agent->base,
                               .queries_max = config->database.queries_max,
                               .retry_min_ms = config->database.retry_min_ms,
                               .retry_max_ms = config->database.retry_max_ms};
    struct chp_store_callbacks callbacks = {
        .user = agent, .on_up = turn__store_on_up, .on_down = turn__store_on_down};
    agent->store = chp_pg_store_new(&pg, &callbacks, &error);
    if (agent->store == NULL) {
        (void)snprintf(agent->store_problem, sizeof agent->store_problem, "%s", error.text);
        chp_log_error("database not usable", CHP_S("error", error.text));
    }
}

static void migrate_start(struct daemon *daemon);

static void migrate_on_retry(evutil_socket_t fd, short what, void *user)
{
    (void)fd;
    (void)what;
    migrate_start(user);
}

static void migrate_failed(struct daemon *daemon, const char *problem)
{
    struct chp_agent *agent = &daemon->agent;
    if (strcmp(agent->store_problem, problem) != 0) {
        (void)snprintf(agent->store_problem, sizeof agent->store_problem, "%s", problem);
        chp_log_warn("database is not ready, trying again", CHP_S("error", problem));
    }
    uint64_t ms = chp_backoff_next_ms(&daemon->migrate_backoff);
    struct timeval after = {.tv_sec = (time_t)(ms / 1000),
                            .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    (void)evtimer_add(daemon->migrate_retry, &after);
}

static void migrate_on_exit(evutil_socket_t fd, short what, void *user)
{
    struct daemon *daemon = user;
    char output[CHP_ERROR_TEXT_BYTES] = "";
    int status = 0;
    (void)fd;
    (void)what;
    CHP_ASSERT(waitpid(daemon->migrate_pid, &status, 0) == daemon->migrate_pid);
    ssize_t len = read(daemon->migrate_output, output, sizeof output - 1);
    output[len > 0 ? len : 0] = 0;
    output[strcspn(output, "\n")] = 0;
    event_free(daemon->migrate_exit);
    daemon->migrate_exit = NULL;
    (void)close(daemon->migrate_pidfd);
    (void)close(daemon->migrate_output);
    daemon->migrate_pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        open_store(daemon);
    } else {
        static const char prefix[] = "cheops-agent: migrate: ";
        const char *problem = output;
        if (strncmp(problem, prefix, strlen(prefix)) == 0) {
            problem += strlen(prefix);
        }
        migrate_failed(daemon, problem);
    }
}

/* Migrations in a process of their own, since they block: libpq's connection may, and a long one
 * does. */
static void migrate_start(struct daemon *daemon)
{
    char program[] = "cheops-agent";
    char verb[] = "migrate";
    char option[] = "-c";
    char *const argv[] = {program, verb, option, daemon->path, NULL};
    posix_spawn_file_actions_t actions;
    int output[2];
    if (pipe2(output, O_CLOEXEC | O_NONBLOCK) != 0) {
        migrate_failed(daemon, strerror(errno));
        return;
    }
    CHP_ASSERT(posix_spawn_file_actions_init(&actions) == 0);
    CHP_ASSERT(posix_spawn_file_actions_adddup2(&actions, output[1], STDERR_FILENO) == 0);
    int code = posix_spawn(&daemon->migrate_pid, "/proc/self/exe", &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(output[1]);
    if (code != 0) {
        (void)close(output[0]);
        migrate_failed(daemon, strerror(code));
        return;
    }
    daemon->migrate_output = output[0];
    daemon->migrate_pidfd = (int)syscall(SYS_pidfd_open, daemon->migrate_pid, 0);
    CHP_ASSERT(daemon->migrate_pidfd >= 0);
    daemon->migrate_exit =
        event_new(daemon->agent.base, daemon->migrate_pidfd, EV_READ, migrate_on_exit, daemon);
    CHP_ASSERT(daemon->migrate_exit != NULL);
    (void)event_add(daemon->migrate_exit, NULL);
}

static int make_directory(const char *path, struct chp_error *error)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return chp_error_set(error, CHP_EIO, "cannot make the directory %s: %s", path,
                             strerror(errno));
    }
    return 0;
}

static void describe_peers(struct chp_agent *agent, struct chp_arena *arena,
                           struct chp_amqp_peer **amqp_peers)
{
    const struct chp_config *config = agent->config;
    struct chp_engine_peer *peers = chp_arena_calloc(arena, config->site_count, sizeof *peers);
    *amqp_peers = chp_arena_calloc(arena, config->site_count, sizeof **amqp_peers);
    for (size_t i = 0; i < config->site_count; i++) {
        peers[i].site = config->sites[i].name;
        (*amqp_peers)[i].site = config->sites[i].name;
        (*amqp_peers)[i].local = config->sites[i].link == CHP_CONFIG_LINK_LOCAL;
    }
    uint64_t seed;
    chp_random(&seed, sizeof seed);
    agent->engine_config = (struct chp_engine_config){
        .site = config->agent.site,
        .peers = peers,
        .peer_count = config->site_count,
        .down_after_ms = config->agent.down_after_ms,
        .max_skew_ms = config->agent.max_skew_ms,
        .events_kept_ms = config->database.events_kept_ms,
        .resources_max = config->agent.resources_max,
        .pending_max = config->agent.pending_max,
        .operations_kept = config->agent.operations_kept,
        .map_seed = seed,
    };
}

static int open_drivers(struct daemon *daemon, struct chp_arena *arena, struct chp_error *error)
{
    struct chp_agent *agent = &daemon->agent;
    const struct chp_config *config = daemon->config;
    const char *spool = chp_arena_printf(arena, "%s/spool", config->agent.state_dir);
    struct chp_shell_config shell = shell_config(daemon, config, spool);
    struct chp_http_driver_config rest = rest_config(daemon, config, arena);
    struct chp_blobs_config blobs = {
        .directory = chp_arena_printf(arena, "%s/blobs", config->agent.state_dir),
        .blob_max_bytes = config->files.blob_max_bytes,
        .fetch_timeout_ms = config->files.fetch_timeout_ms,
        .base = agent->base,
        .user = agent,
        .send = blobs_send,
    };
    agent->drivers[0] = chp_shell_driver_new(&shell, error);
    agent->drivers[1] = agent->drivers[0] == NULL ? NULL : chp_http_driver_new(&rest, error);
    agent->blobs = agent->drivers[1] == NULL ? NULL : chp_blobs_new(&blobs, error);
    return agent->blobs == NULL ? error->code : 0;
}

static int open_broker(struct daemon *daemon, const struct chp_amqp_peer *peers,
                       struct chp_error *error)
{
    struct chp_agent *agent = &daemon->agent;
    const struct chp_config *config = daemon->config;
    struct chp_amqp_config amqp = {
        .uri = config->broker.uri,
        .ca_file = config->broker.ca_file,
        .cert_file = config->broker.cert_file,
        .key_file = config->broker.key_file,
        .server_name = config->broker.server_name,
        .site = config->agent.site,
        .peers = peers,
        .peer_count = config->site_count,
        .base = agent->base,
        .prefetch = (uint16_t)config->broker.prefetch,
        .heartbeat_s = (uint16_t)config->broker.heartbeat_s,
        .retry_min_ms = config->broker.retry_min_ms,
        .retry_max_ms = config->broker.retry_max_ms,
        .output_max_bytes = config->broker.output_max_bytes,
        .unconfirmed_max = config->broker.unconfirmed_max,
        .seed = agent->engine_config.map_seed,
    };
    struct chp_broker_callbacks callbacks = {
        .user = agent,
        .on_up = broker_on_up,
        .on_down = broker_on_down,
        .on_blocked = broker_on_blocked,
        .on_delivery = inbound__on_delivery,
        .on_settled = broker_on_settled,
        .on_drained = broker_on_drained,
    };
    agent->broker = chp_amqp_broker_new(&amqp, &callbacks, error);
    if (agent->broker == NULL) {
        return error->code;
    }
    chp_broker_pause(agent->broker, true); /* until the engine has started */
    return 0;
}

static int open_door(struct daemon *daemon, struct chp_error *error)
{
    struct chp_agent *agent = &daemon->agent;
    int code = load_tokens(daemon, daemon->config, error);
    if (code != 0) {
        return code;
    }
    struct chp_http_config door = door_config(daemon, daemon->config);
    agent->port = (struct chp_agent_port){.agent = agent, .vtable = &agent_port__vtable};
    agent->door = chp_http_door_new(&door, &agent->port, error);
    return agent->door == NULL ? error->code : 0;
}

static int open_parts(struct daemon *daemon, struct chp_arena *arena, struct chp_error *error)
{
    struct chp_agent *agent = &daemon->agent;
    struct chp_amqp_peer *peers = NULL;
    describe_peers(agent, arena, &peers);
    turn__init(agent);
    agent->sender = sender__new(agent);
    agent->inbound = inbound__new(agent);
    agent->executor = executor__new(agent);
    agent->watchers = watchers__new();
    agent->publisher = publisher__new(agent);
    agent->replies = replies__new(agent);
    agent->shows = shows__new(agent);
    agent->sweep = sweep__new(agent);
    agent->census = census__new(agent);
    agent->resolves = resolves__new(agent);
    agent->histories = histories__new(agent);
    int code = make_directory(daemon->config->agent.state_dir, error);
    if (code == 0) {
        agent->high_water =
            high_water__open(daemon->config->agent.state_dir, agent->engine_config.peers,
                             agent->engine_config.peer_count, error);
        code = agent->high_water == NULL ? error->code : 0;
    }
    if (code == 0) {
        code = open_drivers(daemon, arena, error);
    }
    if (code == 0) {
        code = open_door(daemon, error);
    }
    if (code == 0) {
        code = open_broker(daemon, peers, error);
    }
    return code;
}

static void close_parts(struct daemon *daemon)
{
    struct chp_agent *agent = &daemon->agent;
    if (agent->turn == NULL) {
        return; /* nothing was opened */
    }
    if (agent->door != NULL) {
        chp_http_door_free(agent->door);
    }
    census__free(agent->census);
    resolves__free(agent->resolves);
    histories__free(agent->histories);
    shows__free(agent->shows);
    executor__free(agent->executor);
    for (size_t i = 0; i < DRIVERS; i++) {
        if (agent->drivers[i] != NULL) {
            agent->drivers[i]->vtable->free(agent->drivers[i]);
        }
    }
    if (agent->blobs != NULL) {
        chp_blobs_free(agent->blobs);
    }
    chp_broker_free(agent->broker);
    agent->broker = NULL;
    chp_store_free(agent->store);
    inbound__free(agent->inbound);
    sender__free(agent->sender);
    publisher__free(agent->publisher);
    replies__free(agent->replies);
    watchers__free(agent->watchers);
    sweep__free(agent->sweep);
    submit__deinit(agent);
    turn__deinit(agent);
    high_water__free(agent->high_water);
}

static void run_loop(struct daemon *daemon)
{
    struct chp_agent *agent = &daemon->agent;
    static const int numbers[3] = {SIGTERM, SIGINT, SIGHUP};
    for (int i = 0; i < 3; i++) {
        daemon->signals[i] = evsignal_new(agent->base, numbers[i], daemon_on_signal, daemon);
        CHP_ASSERT(daemon->signals[i] != NULL);
        (void)event_add(daemon->signals[i], NULL);
    }
    chp_backoff_init(&daemon->migrate_backoff, MIGRATE_RETRY_FLOOR_MS, MIGRATE_RETRY_FIRST_MS,
                     MIGRATE_RETRY_MAX_MS, ~agent->engine_config.map_seed);
    daemon->migrate_retry = evtimer_new(agent->base, migrate_on_retry, daemon);
    CHP_ASSERT(daemon->migrate_retry != NULL);
    agent->tick = timer(agent->base, TICK_MS, agent_on_tick, agent);
    agent->beat = timer(agent->base, daemon->config->agent.beat_interval_ms, agent_on_beat, agent);
    (void)snprintf(agent->store_problem, sizeof agent->store_problem, "not connected yet");
    (void)snprintf(agent->broker_problem, sizeof agent->broker_problem, "not connected yet");
    if (daemon->config->agent.migrate) {
        migrate_start(daemon);
    } else {
        open_store(daemon);
    }
    chp_log_info("agent is running", CHP_S("version", CHEOPS_VERSION),
                 CHP_I("http_port", chp_http_door_port(agent->door)));
    notify("READY=1");
    (void)event_base_dispatch(agent->base);
    event_free(agent->tick);
    event_free(agent->beat);
    event_free(daemon->migrate_retry);
    if (daemon->drain != NULL) {
        event_free(daemon->drain);
    }
    if (daemon->migrate_exit != NULL) {
        event_free(daemon->migrate_exit);
    }
    for (int i = 0; i < 3; i++) {
        event_free(daemon->signals[i]);
    }
}

/* The runner given, or the one beside this program. */
static int find_runner(struct daemon *daemon, const char *program, struct chp_error *error)
{
    if (daemon->config->shell.runner != NULL) {
        (void)snprintf(daemon->runner, sizeof daemon->runner, "%s", daemon->config->shell.runner);
        return 0;
    }
    char self[2048];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len <= 0) {
        return chp_error_set(error, CHP_EIO, "cannot find out where %s lies: set [shell] runner",
                             program);
    }
    self[len] = 0;
    *strrchr(self, '/') = 0;
    (void)snprintf(daemon->runner, sizeof daemon->runner, "%s/cheops-runner", self);
    if (access(daemon->runner, X_OK) != 0) { /* installed: bin/ and libexec/cheops/ */
        (void)snprintf(daemon->runner, sizeof daemon->runner, "%s/../libexec/cheops/cheops-runner",
                       self);
    }
    return 0;
}

int setup__run(struct chp_config *config, const char *path, const char *program)
{
    struct daemon daemon = {.config = config};
    struct chp_agent *agent = &daemon.agent;
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    (void)signal(SIGPIPE, SIG_IGN);
    chp_log_setup((enum chp_log_level)config->agent.log_level, config->agent.site);
    if (realpath(path, daemon.path) == NULL) {
        (void)snprintf(daemon.path, sizeof daemon.path, "%s", path);
    }
    agent->base = event_base_new();
    CHP_ASSERT(agent->base != NULL);
    agent->config = config;
    agent->policy = config;
    agent->started_us = chp_clock_mono_us();
    chp_list_init(&agent->submissions);
    int code = find_runner(&daemon, program, &error);
    if (code == 0) {
        code = open_parts(&daemon, &arena, &error);
        if (code == 0) {
            run_loop(&daemon);
        }
    }
    if (code != 0) {
        chp_log_error("cannot start", CHP_S("error", error.text));
    }
    close_parts(&daemon);
    event_base_free(agent->base);
    chp_config_deinit(&daemon.reloaded);
    chp_arena_deinit(&daemon.tokens_arena);
    chp_arena_deinit(&arena);
    return code == 0 ? 0 : 1;
}
