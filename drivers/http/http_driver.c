/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The http driver: one libcurl multi handle whose sockets and timer are events of the loop.
 *
 * What a response says beyond CHP_OUTPUT_MAX_BYTES is read and dropped rather than cut off, since
 * some services take a connection that closes early for a client that changed its mind. Redirects
 * are answers like others: following one would carry a change to somewhere that nobody configured.
 *
 * libcurl sends a request again by itself when a connection that it kept open turns out to be
 * closed. A service may have served the first one, so requests that are not idempotent always get a
 * new connection.
 */
#include "http_driver.h"

#include "http_request.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RUN_MAGIC = 0x477b0000 };

enum phase { PHASE_NEW, PHASE_WAITING, PHASE_RUNNING, PHASE_FINISHED };

struct http_driver {
    struct chp_driver driver; /* first: what the user of the driver holds */
    struct event_base *base;
    char *site;
    struct http_settings *settings;
    CURLM *multi;
    struct event *timer;
    struct event *deliver;
    struct chp_map *runs; /* by operation and run */
    struct chp_list waiting;
    struct chp_list running;
    struct chp_list finished;
    unsigned running_count;
};

struct http_run {
    unsigned magic;
    struct chp_list node;
    struct http_driver *driver;
    enum phase phase;
    struct chp_uuid operation;
    uint32_t run;
    chp_completion_fn *on_done;
    void *user;
    struct chp_arena arena; /* of the request */
    struct chp_rest rest;
    const char *url;
    const char *service;
    const char *ca_file;
    struct http_success success;
    uint64_t deadline_ms;
    const char *body_path; /* streamed from disk, NULL: rest.body */
    int body_fd;
    uint64_t body_bytes;
    size_t body_sent; /* of rest.body */
    CURL *easy;
    struct curl_slist *headers;
    char curl_error[CURL_ERROR_SIZE];
    uint64_t started_mono_ms;
    struct chp_buf output;
    struct chp_completion completion;
};

static struct http_driver *driver_of(struct chp_driver *driver)
{
    return CHP_CONTAINER(driver, struct http_driver, driver);
}

/* The only place that changes a run's phase. */
static void set_phase(struct http_run *run, enum phase phase)
{
    static const bool allowed[][PHASE_FINISHED + 1] = {
        [PHASE_NEW] = {[PHASE_WAITING] = true, [PHASE_FINISHED] = true},
        [PHASE_WAITING] = {[PHASE_RUNNING] = true, [PHASE_FINISHED] = true},
        [PHASE_RUNNING] = {[PHASE_FINISHED] = true},
        [PHASE_FINISHED] = {[PHASE_NEW] = false},
    };
    struct http_driver *driver = run->driver;
    CHP_ASSERT(allowed[run->phase][phase]);
    chp_list_remove(&run->node);
    driver->running_count -= run->phase == PHASE_RUNNING ? 1 : 0;
    run->phase = phase;
    switch (phase) {
    case PHASE_NEW:
        break;
    case PHASE_WAITING:
        chp_list_append(&driver->waiting, &run->node);
        break;
    case PHASE_RUNNING:
        chp_list_append(&driver->running, &run->node);
        driver->running_count++;
        break;
    case PHASE_FINISHED:
        chp_list_append(&driver->finished, &run->node);
        event_active(driver->deliver, EV_TIMEOUT, 0);
        break;
    }
}

static void transfer_close(struct http_run *run)
{
    if (run->easy != NULL) {
        (void)curl_multi_remove_handle(run->driver->multi, run->easy);
        curl_easy_cleanup(run->easy);
        run->easy = NULL;
    }
    curl_slist_free_all(run->headers);
    run->headers = NULL;
    if (run->body_fd >= 0) {
        (void)close(run->body_fd);
        run->body_fd = -1;
    }
}

static void run_free(struct http_run *run)
{
    transfer_close(run);
    chp_list_remove(&run->node);
    chp_buf_deinit(&run->output);
    chp_arena_deinit(&run->arena);
    run->magic = 0;
    free(run);
}

/* reason NULL: done. It is copied and made UTF-8, since it may quote a service. */
static void finish(struct http_run *run, enum chp_state state, int32_t exit_code,
                   const char *reason)
{
    struct chp_completion *completion = &run->completion;
    completion->state = state;
    completion->exit_code = exit_code;
    if (reason != NULL) {
        struct chp_buf text = {0};
        chp_buf_add_utf8_lossy(&text, reason, strnlen(reason, CHP_REASON_MAX_BYTES / 3));
        completion->reason = chp_arena_strdup(&run->arena, chp_buf_text(&text));
        chp_buf_deinit(&text);
    }
    completion->output = chp_buf_bytes(&run->output);
    if (run->started_mono_ms != 0) {
        completion->duration_ms = chp_clock_mono_ms() - run->started_mono_ms;
    }
    transfer_close(run);
    set_phase(run, PHASE_FINISHED);
}

static size_t curl_on_response(char *data, size_t size, size_t count, void *user)
{
    struct http_run *run = user;
    size_t len = size * count;
    size_t room = CHP_OUTPUT_MAX_BYTES - run->output.len;
    size_t kept = len < room ? len : room;
    CHP_ASSERT(run->magic == RUN_MAGIC);
    chp_buf_add(&run->output, data, kept);
    run->completion.output_cut = run->completion.output_cut || kept < len;
    return len;
}

static size_t curl_on_request_body(char *data, size_t size, size_t count, void *user)
{
    struct http_run *run = user;
    size_t room = size * count;
    CHP_ASSERT(run->magic == RUN_MAGIC);
    if (run->body_fd >= 0) {
        ssize_t got = read(run->body_fd, data, room);
        return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
    }
    size_t left = run->rest.body.len - run->body_sent;
    size_t len = left < room ? left : room;
    if (len > 0) {
        memcpy(data, run->rest.body.data + run->body_sent, len);
    }
    run->body_sent += len;
    return len;
}

/* libcurl sends an idempotent request again on a new connection. */
static int curl_on_seek(void *user, curl_off_t offset, int origin)
{
    struct http_run *run = user;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > run->body_bytes) {
        return CURL_SEEKFUNC_FAIL;
    }
    if (run->body_fd >= 0) {
        return lseek(run->body_fd, offset, SEEK_SET) < 0 ? CURL_SEEKFUNC_FAIL : CURL_SEEKFUNC_OK;
    }
    run->body_sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int open_body(struct http_run *run)
{
    struct stat st;
    run->body_bytes = run->rest.body.len;
    if (run->body_path == NULL) {
        return 0;
    }
    run->body_fd = open(run->body_path, O_RDONLY | O_CLOEXEC);
    if (run->body_fd < 0 || fstat(run->body_fd, &st) != 0) {
        return CHP_EIO;
    }
    run->body_bytes = (uint64_t)st.st_size;
    return 0;
}

static void add_header(struct http_run *run, const char *header)
{
    struct curl_slist *list = curl_slist_append(run->headers, header);
    CHP_ASSERT(list != NULL);
    run->headers = list;
}

static void add_headers(struct http_run *run)
{
    char id[CHP_UUID_TEXT_BYTES];
    bool has_key = false;
    chp_uuid_format(&run->operation, id);
    for (size_t i = 0; i < run->rest.header_count; i++) {
        const char *header = run->rest.headers[i];
        const char *colon = strchr(header, ':');
        has_key = has_key || http__header_named(header, "Idempotency-Key");
        /* "Name:" would make libcurl leave the header out; "Name;" sends it empty. */
        add_header(run,
                   colon[1 + strspn(colon + 1, " \t")] != 0
                       ? header
                       : chp_arena_printf(&run->arena, "%.*s;", (int)(colon - header), header));
    }
    add_header(run, chp_arena_printf(&run->arena, "Cheops-Operation: %s", id));
    add_header(run, chp_arena_printf(&run->arena, "Cheops-Site: %s", run->driver->site));
    if (!has_key) {
        add_header(run, chp_arena_printf(&run->arena, "Idempotency-Key: %s", id));
    }
    add_header(run, "Expect:"); /* else libcurl waits for a 100 before a big body */
}

static void set_method(const struct http_run *run)
{
    const char *method = run->rest.method;
    bool sends = run->body_bytes > 0 || strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0 ||
                 strcmp(method, "PATCH") == 0;
    if (strcmp(method, "HEAD") == 0) {
        (void)curl_easy_setopt(run->easy, CURLOPT_NOBODY, 1L);
    } else if (sends) {
        (void)curl_easy_setopt(run->easy, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(run->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)run->body_bytes);
        (void)curl_easy_setopt(run->easy, CURLOPT_READFUNCTION, curl_on_request_body);
        (void)curl_easy_setopt(run->easy, CURLOPT_READDATA, run);
        (void)curl_easy_setopt(run->easy, CURLOPT_SEEKFUNCTION, curl_on_seek);
        (void)curl_easy_setopt(run->easy, CURLOPT_SEEKDATA, run);
    }
    (void)curl_easy_setopt(run->easy, CURLOPT_CUSTOMREQUEST, method);
    if (!http__method_idempotent(method)) {
        (void)curl_easy_setopt(run->easy, CURLOPT_FRESH_CONNECT, 1L);
    }
}

static void set_options(struct http_run *run)
{
    CURL *easy = run->easy;
    add_headers(run);
    set_method(run);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, run);
    (void)curl_easy_setopt(easy, CURLOPT_URL, run->url);
    (void)curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* not what the environment says */
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, run->headers);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, run->curl_error);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, curl_on_response);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, run);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)run->deadline_ms);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                           (long)run->driver->settings->connect_timeout_ms);
    if (run->ca_file != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO, run->ca_file);
    }
}

static void launch(struct http_run *run)
{
    char reason[CHP_REASON_MAX_BYTES];
    run->completion.started_ms = chp_clock_wall_ms();
    run->started_mono_ms = chp_clock_mono_ms();
    if (open_body(run) != 0) {
        (void)snprintf(reason, sizeof reason, "file '%.100s' cannot be read: %s",
                       run->rest.body_file, strerror(errno));
        finish(run, CHP_STATE_FAILED, -1, reason);
        return;
    }
    run->easy = curl_easy_init();
    CHP_ASSERT(run->easy != NULL);
    set_options(run);
    set_phase(run, PHASE_RUNNING);
    CHP_ASSERT(curl_multi_add_handle(run->driver->multi, run->easy) == CURLM_OK);
}

static void launch_waiting(struct http_driver *driver)
{
    struct chp_list *node;
    while (driver->running_count < driver->settings->concurrency_max &&
           (node = chp_list_first(&driver->waiting)) != NULL) {
        launch(CHP_CONTAINER(node, struct http_run, node));
    }
}

static void transfer_ended(struct http_run *run, CURLcode result)
{
    char reason[CHP_REASON_MAX_BYTES];
    long status = 0;
    (void)curl_easy_getinfo(run->easy, CURLINFO_RESPONSE_CODE, &status);
    int32_t exit_code = status == 0 ? -1 : (int32_t)status;
    const char *detail = run->curl_error[0] != 0 ? run->curl_error : curl_easy_strerror(result);
    if (result == CURLE_OK && http__success_has(&run->success, status)) {
        finish(run, CHP_STATE_DONE, exit_code, NULL);
        return;
    }
    if (result == CURLE_OK) {
        (void)snprintf(reason, sizeof reason, "service '%.100s' answered %ld", run->service,
                       status);
    } else if (result == CURLE_OPERATION_TIMEDOUT) {
        (void)snprintf(reason, sizeof reason, "timed out: service '%.100s': %.200s", run->service,
                       detail);
    } else {
        (void)snprintf(reason, sizeof reason, "service '%.100s' %s: %.200s", run->service,
                       status == 0 ? "did not answer" : "did not answer completely", detail);
    }
    finish(run, CHP_STATE_FAILED, exit_code, reason);
}

/* After libcurl did something. */
static void take_ended(struct http_driver *driver)
{
    CURLMsg *message;
    int left = 0;
    while ((message = curl_multi_info_read(driver->multi, &left)) != NULL) {
        char *private = NULL;
        CURLcode result = message->data.result;
        if (message->msg == CURLMSG_DONE) {
            (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
            struct http_run *run = (struct http_run *)(void *)private;
            CHP_ASSERT(run != NULL);
            CHP_ASSERT(run->magic == RUN_MAGIC);
            transfer_ended(run, result);
        }
    }
    launch_waiting(driver);
}

static void socket_on_ready(evutil_socket_t fd, short what, void *user)
{
    struct http_driver *driver = user;
    int running = 0;
    int action = ((what & EV_READ) != 0 ? CURL_CSELECT_IN : 0) |
                 ((what & EV_WRITE) != 0 ? CURL_CSELECT_OUT : 0);
    (void)curl_multi_socket_action(driver->multi, fd, action, &running);
    take_ended(driver);
}

static void timer_on_expiry(evutil_socket_t fd, short what, void *user)
{
    struct http_driver *driver = user;
    int running = 0;
    (void)fd;
    (void)what;
    (void)curl_multi_socket_action(driver->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    take_ended(driver);
}

static int curl_on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
    struct http_driver *driver = user;
    struct event *event = socket_user;
    (void)easy;
    if (event != NULL) {
        event_free(event);
    }
    event = NULL;
    if (what != CURL_POLL_REMOVE) {
        short kind = (short)(EV_PERSIST | ((what & CURL_POLL_IN) != 0 ? EV_READ : 0) |
                             ((what & CURL_POLL_OUT) != 0 ? EV_WRITE : 0));
        event = event_new(driver->base, fd, kind, socket_on_ready, driver);
        CHP_ASSERT(event != NULL);
        CHP_ASSERT(event_add(event, NULL) == 0);
    }
    (void)curl_multi_assign(driver->multi, fd, event);
    return 0;
}

static int curl_on_timer(CURLM *multi, long timeout_ms, void *user)
{
    struct http_driver *driver = user;
    (void)multi;
    if (timeout_ms < 0) {
        (void)evtimer_del(driver->timer);
        return 0;
    }
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    return evtimer_add(driver->timer, &timeout);
}

static int http_check(struct chp_driver *base, struct chp_bytes payload,
                      const struct chp_file *files, size_t file_count, struct chp_error *error)
{
    struct chp_arena arena = {0};
    struct chp_rest rest;
    const struct http_service *service = NULL;
    const char **names = chp_arena_calloc(&arena, file_count, sizeof *names);
    for (size_t i = 0; i < file_count; i++) {
        names[i] = files[i].name;
    }
    int code = http__request_check(driver_of(base)->settings, payload, names, file_count, &arena,
                                   &rest, &service, error);
    chp_arena_deinit(&arena);
    return code;
}

/* Copies what the request needs from order and settings, which do not live as long. */
static int read_order(struct http_run *run, const struct chp_run *order, struct chp_error *error)
{
    const struct http_service *service = NULL;
    const char **names = chp_arena_calloc(&run->arena, order->file_count, sizeof *names);
    for (size_t i = 0; i < order->file_count; i++) {
        names[i] = order->files[i].name;
    }
    int code =
        http__request_check(run->driver->settings, chp_arena_bytes(&run->arena, order->payload),
                            names, order->file_count, &run->arena, &run->rest, &service, error);
    if (code != 0) {
        return code;
    }
    run->service = chp_arena_strdup(&run->arena, service->name);
    run->ca_file = chp_arena_strdup(&run->arena, service->ca_file);
    run->success = service->success;
    run->url = chp_arena_printf(&run->arena, "%s/%s", service->url, run->rest.path);
    run->deadline_ms = order->deadline_ms == 0 ? CHP_DEADLINE_DEFAULT_MS : order->deadline_ms;
    for (size_t i = 0; i < order->file_count && run->rest.body_file != NULL; i++) {
        const struct chp_run_file *file = &order->files[i];
        if (strcmp(file->name, run->rest.body_file) == 0) {
            run->body_path = chp_arena_strdup(&run->arena, file->path);
            run->rest.body = chp_arena_bytes(&run->arena, file->content);
        }
    }
    return 0;
}

static void http_start(struct chp_driver *base, const struct chp_run *order,
                       chp_completion_fn *on_done, void *user)
{
    struct http_driver *driver = driver_of(base);
    struct chp_error error = {0};
    uint8_t key[CHP_RUN_KEY_BYTES];
    struct http_run *run = chp_alloc(sizeof *run);
    run->magic = RUN_MAGIC;
    run->driver = driver;
    run->operation = order->operation;
    run->run = order->run;
    run->on_done = on_done;
    run->user = user;
    run->body_fd = -1;
    run->completion = (struct chp_completion){
        .operation = order->operation, .run = order->run, .started_ms = chp_clock_wall_ms()};
    void *before = chp_map_put(driver->runs, chp_run_key(key, &run->operation, run->run), run);
    CHP_ASSERT(before == NULL); /* one start per run */
    int code = read_order(run, order, &error);
    if (order->resume && (code != 0 || !http__method_idempotent(run->rest.method))) {
        finish(run, CHP_STATE_IN_DOUBT, -1,
               "the agent ended while the request may have been under way, and it cannot simply be "
               "sent again: whether the service took it is not known");
    } else if (code != 0) {
        finish(run, code == CHP_EREFUSED ? CHP_STATE_REFUSED : CHP_STATE_FAILED, -1, error.text);
    } else {
        set_phase(run, PHASE_WAITING);
    }
    launch_waiting(driver);
}

static void http_cancel(struct chp_driver *base, const struct chp_uuid *operation, uint32_t number)
{
    struct http_driver *driver = driver_of(base);
    uint8_t key[CHP_RUN_KEY_BYTES];
    struct http_run *run = chp_map_get(driver->runs, chp_run_key(key, operation, number));
    if (run != NULL && run->phase != PHASE_FINISHED) {
        finish(run, CHP_STATE_FAILED, -1, "canceled");
        launch_waiting(driver);
    }
}

/* Nothing is kept that could survive a restart. */
static void http_forget(struct chp_driver *base, const struct chp_uuid *operation, uint32_t number)
{
    (void)base;
    (void)operation;
    (void)number;
}

static void driver_on_deliver(evutil_socket_t fd, short what, void *user)
{
    struct http_driver *driver = user;
    struct chp_list *node;
    (void)fd;
    (void)what;
    while ((node = chp_list_pop(&driver->finished)) != NULL) {
        struct http_run *run = CHP_CONTAINER(node, struct http_run, node);
        uint8_t key[CHP_RUN_KEY_BYTES];
        /* Out of every list before the call, which may come back with another start. */
        (void)chp_map_remove(driver->runs, chp_run_key(key, &run->operation, run->run));
        run->on_done(run->user, &run->completion);
        run_free(run);
    }
}

static void free_runs(struct chp_list *list)
{
    struct chp_list *node;
    while ((node = chp_list_pop(list)) != NULL) {
        run_free(CHP_CONTAINER(node, struct http_run, node));
    }
}

static void http_free(struct chp_driver *base)
{
    struct http_driver *driver = driver_of(base);
    free_runs(&driver->finished);
    free_runs(&driver->running);
    free_runs(&driver->waiting);
    (void)curl_multi_cleanup(driver->multi);
    curl_global_cleanup();
    event_free(driver->timer);
    event_free(driver->deliver);
    chp_map_free(driver->runs);
    http__settings_free(driver->settings);
    free(driver->site);
    free(driver);
}

struct chp_driver *chp_http_driver_new(const struct chp_http_driver_config *config,
                                       struct chp_error *error)
{
    static const struct chp_driver_vtable vtable = {
        .name = "http",
        .check = http_check,
        .start = http_start,
        .cancel = http_cancel,
        .forget = http_forget,
        .free = http_free,
    };
    struct http_settings *settings = http__settings_new(config, error);
    if (settings == NULL) {
        return NULL;
    }
    uint64_t seed = 0;
    chp_random(&seed, sizeof seed);
    struct http_driver *driver = chp_alloc(sizeof *driver);
    driver->driver.vtable = &vtable;
    driver->base = config->base;
    driver->site = chp_strdup(config->site);
    driver->settings = settings;
    driver->runs = chp_map_new(seed);
    chp_list_init(&driver->waiting);
    chp_list_init(&driver->running);
    chp_list_init(&driver->finished);
    driver->timer = evtimer_new(config->base, timer_on_expiry, driver);
    driver->deliver = event_new(config->base, -1, 0, driver_on_deliver, driver);
    CHP_ASSERT(driver->timer != NULL);
    CHP_ASSERT(driver->deliver != NULL);
    CHP_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    driver->multi = curl_multi_init();
    CHP_ASSERT(driver->multi != NULL);
    (void)curl_multi_setopt(driver->multi, CURLMOPT_SOCKETFUNCTION, curl_on_socket);
    (void)curl_multi_setopt(driver->multi, CURLMOPT_SOCKETDATA, driver);
    (void)curl_multi_setopt(driver->multi, CURLMOPT_TIMERFUNCTION, curl_on_timer);
    (void)curl_multi_setopt(driver->multi, CURLMOPT_TIMERDATA, driver);
    return &driver->driver;
}

void chp_http_driver_reload(struct chp_driver *base, const struct chp_http_driver_config *config)
{
    struct http_driver *driver = driver_of(base);
    struct chp_error error = {0};
    struct http_settings *settings = http__settings_new(config, &error);
    if (settings == NULL) {
        chp_log_error("services not replaced", CHP_S("reason", error.text));
        return;
    }
    http__settings_free(driver->settings);
    driver->settings = settings;
    launch_waiting(driver);
}
