/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * One transfer at a time through a multi handle, since only that lets the program look up while it
 * waits: to redraw, to notice Ctrl-C. Proxies are never used: an
 * agent is on this machine or beside it, and its token is for nobody else.
 */
#include "cli/client.h"

#include "base/clock.h"
#include "base/mem.h"

#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    TRIES = 3,
    CALL_TIMEOUT_MS = 30 * 1000,
    CONNECT_TIMEOUT_MS = 5 * 1000,
    RETRY_FIRST_MS = 400,
    RETRY_MAX_MS = 5 * 1000,
    RETRY_AFTER_MAX_MS = 5 * 1000,
};

struct cli_client {
    const struct cli_endpoint *endpoint;
};

/* One try of one request. */
struct transfer {
    CURL *easy;
    const struct cli_request *request;
    struct cli_response *response;
    struct chp_buf line;
    bool stopped; /* by on_line */
    bool too_big;
    bool unreadable; /* the body's file */
    char text[CURL_ERROR_SIZE];
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

bool cli__interrupted(void)
{
    return interrupted != 0;
}

void cli__sleep(uint64_t ms)
{
    uint64_t end = chp_clock_mono_ms() + ms;
    for (uint64_t now = chp_clock_mono_ms(); now < end && !cli__interrupted();
         now = chp_clock_mono_ms()) {
        uint64_t left = end - now;
        struct timespec pause = {.tv_sec = (time_t)(left / 1000),
                                 .tv_nsec = (long)(left % 1000) * 1000000};
        (void)nanosleep(&pause, NULL);
    }
}

struct cli_client *cli__client_new(const struct cli_endpoint *endpoint)
{
    CHP_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    struct sigaction action = {.sa_handler = on_interrupt};
    (void)sigaction(SIGINT, &action, NULL);
    struct cli_client *client = chp_alloc(sizeof *client);
    client->endpoint = endpoint;
    return client;
}

void cli__client_free(struct cli_client *client)
{
    if (client != NULL) {
        curl_global_cleanup();
        free(client);
    }
}

const char *cli__client_shown(const struct cli_client *client)
{
    return client->endpoint->shown;
}

void cli__response_deinit(struct cli_response *response)
{
    chp_buf_deinit(&response->body);
}

/* Cuts what came into lines; false when on_line wants no more. */
static bool feed_lines(struct transfer *transfer, const char *data, size_t len)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t piece = end == NULL ? len : (size_t)(end - data);
        if (transfer->line.len + piece > CLI_LINE_MAX_BYTES) {
            transfer->too_big = true;
            return false;
        }
        chp_buf_add(&transfer->line, data, piece);
        if (end == NULL) {
            return true;
        }
        if (transfer->line.len > 0 && transfer->line.data[transfer->line.len - 1] == '\r') {
            transfer->line.data[--transfer->line.len] = 0;
        }
        if (!transfer->request->on_line(transfer->request->user, chp_buf_text(&transfer->line),
                                        transfer->line.len)) {
            transfer->stopped = true;
            return false;
        }
        chp_buf_clear(&transfer->line);
        data += piece + 1;
        len -= piece + 1;
    }
    return true;
}

static size_t transfer_on_data(char *data, size_t size, size_t count, void *user)
{
    struct transfer *transfer = user;
    size_t len = size * count;
    long status = 0;
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200 && transfer->request->on_line != NULL) {
        return feed_lines(transfer, data, len) ? len : 0;
    }
    if (len > CLI_BODY_MAX_BYTES - transfer->response->body.len) {
        transfer->too_big = true;
        return 0;
    }
    chp_buf_add(&transfer->response->body, data, len);
    return len;
}

static size_t transfer_on_send(char *data, size_t size, size_t count, void *user)
{
    struct transfer *transfer = user;
    ssize_t len = pread(transfer->request->body_fd, data, size * count,
                        (off_t)transfer->response->sent_bytes);
    if (len < 0) {
        transfer->unreadable = true;
        return CURL_READFUNC_ABORT;
    }
    transfer->response->sent_bytes += (uint64_t)len;
    return (size_t)len;
}

static void set_body(CURL *easy, struct transfer *transfer)
{
    const struct cli_request *request = transfer->request;
    if (request->body_size > 0) {
        (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size);
        (void)curl_easy_setopt(easy, CURLOPT_READFUNCTION, transfer_on_send);
        (void)curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
    } else if (strcmp(request->method, "POST") == 0) {
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                               request->body.data == NULL ? (const void *)"" : request->body.data);
    }
    (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
}

static struct curl_slist *add_header(struct curl_slist *headers, const char *name,
                                     const char *value)
{
    struct chp_buf line = {0};
    chp_buf_printf(&line, "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(headers, chp_buf_text(&line));
    CHP_ASSERT(longer != NULL);
    chp_buf_deinit(&line);
    return longer;
}

static struct curl_slist *make_headers(const struct cli_client *client,
                                       const struct cli_request *request)
{
    const char *json = "application/json";
    struct curl_slist *headers =
        add_header(NULL, "Accept", request->accept == NULL ? json : request->accept);
    if (request->body.len > 0 || request->body_size > 0) {
        headers = add_header(headers, "Content-Type",
                             request->content_type == NULL ? json : request->content_type);
    }
    if (request->key != NULL) {
        headers = add_header(headers, "Idempotency-Key", request->key);
    }
    if (client->endpoint->token != NULL) {
        struct chp_buf bearer = {0};
        chp_buf_printf(&bearer, "Bearer %s", client->endpoint->token);
        headers = add_header(headers, "Authorization", chp_buf_text(&bearer));
        chp_buf_deinit(&bearer);
    }
    /* The agent answers early when it will not take a body; waiting a second for its consent gains
     * nothing. */
    struct curl_slist *longer = curl_slist_append(headers, "Expect:");
    CHP_ASSERT(longer != NULL);
    return longer;
}

static void set_options(const struct cli_client *client, struct transfer *transfer,
                        struct curl_slist *headers, const char *url)
{
    CURL *easy = transfer->easy;
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->text);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, transfer_on_data);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_USERAGENT, "cheops/" CHEOPS_VERSION);
    if (client->endpoint->socket != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, client->endpoint->socket);
    }
    set_body(easy, transfer);
}

/* Runs the handle to its end. CHP_ETIMEOUT, CHP_ECANCELED, or 0 with curl's own verdict in
 * *verdict. */
static int run(struct transfer *transfer, CURLM *multi, CURLcode *verdict)
{
    const struct cli_request *request = transfer->request;
    uint64_t limit_ms = request->timeout_ms;
    if (limit_ms == 0) {
        limit_ms =
            request->on_line == NULL && request->body_size == 0 ? CALL_TIMEOUT_MS : UINT64_MAX / 2;
    }
    uint64_t end = chp_clock_mono_ms() + limit_ms;
    uint64_t tick = chp_clock_mono_ms() + CLI_TICK_MS;
    int running = 1;
    while (running > 0) {
        CHP_ASSERT(curl_multi_perform(multi, &running) == CURLM_OK);
        uint64_t now = chp_clock_mono_ms();
        if (running > 0 && cli__interrupted()) {
            return CHP_ECANCELED;
        }
        if (running > 0 && now >= end) {
            return CHP_ETIMEOUT;
        }
        if (request->on_tick != NULL && now >= tick) {
            request->on_tick(request->user);
            tick = chp_clock_mono_ms() + CLI_TICK_MS;
        }
        if (running > 0) {
            (void)curl_multi_poll(multi, NULL, 0, CLI_TICK_MS, NULL);
        }
    }
    int left;
    const CURLMsg *message = curl_multi_info_read(multi, &left);
    CHP_ASSERT(message != NULL && message->msg == CURLMSG_DONE);
    *verdict = message->data.result;
    return 0;
}

/* What curl's verdict means here; *unsent when the agent cannot have seen the request. */
static int judge(const struct cli_client *client, const struct transfer *transfer, CURLcode verdict,
                 bool *unsent, struct chp_error *error)
{
    long os_errno = 0;
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &os_errno);
    const char *why = os_errno != 0            ? strerror((int)os_errno)
                      : transfer->text[0] != 0 ? transfer->text
                                               : curl_easy_strerror(verdict);
    const char *shown = client->endpoint->shown;
    *unsent = verdict == CURLE_COULDNT_CONNECT || verdict == CURLE_COULDNT_RESOLVE_HOST ||
              (verdict == CURLE_OPERATION_TIMEDOUT && transfer->response->status == 0);
    if (transfer->stopped) {
        return 0;
    }
    if (transfer->too_big) {
        return chp_error_set(error, CHP_ETOOBIG, "the answer of %s is larger than any agent's",
                             shown);
    }
    if (transfer->unreadable) {
        return chp_error_set(error, CHP_EINVAL, "the file cannot be read");
    }
    if (*unsent) {
        return chp_error_set(error, CHP_EUNAVAILABLE, "no agent answers at %s (%s)", shown, why);
    }
    if (verdict == CURLE_UNSUPPORTED_PROTOCOL || verdict == CURLE_WEIRD_SERVER_REPLY) {
        return chp_error_set(error, CHP_EMALFORMED, "what answers at %s is not an agent (%s)",
                             shown, why);
    }
    return verdict == CURLE_OK
               ? 0
               : chp_error_set(error, CHP_EIO, "the connection to %s broke (%s)", shown, why);
}

static int try_once(struct cli_client *client, const struct cli_request *request,
                    struct cli_response *response, bool *unsent, uint64_t *retry_after_ms,
                    struct chp_error *error)
{
    struct transfer transfer = {.easy = curl_easy_init(), .request = request, .response = response};
    CURLM *multi = curl_multi_init();
    CHP_ASSERT(transfer.easy != NULL && multi != NULL);
    struct curl_slist *headers = make_headers(client, request);
    struct chp_buf url = {0};
    chp_buf_printf(&url, "%s%s", client->endpoint->url, request->path);
    set_options(client, &transfer, headers, chp_buf_text(&url));
    CHP_ASSERT(curl_multi_add_handle(multi, transfer.easy) == CURLM_OK);
    CURLcode verdict = CURLE_OK;
    int code = run(&transfer, multi, &verdict);
    (void)curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &response->status);
    curl_off_t seconds = 0;
    (void)curl_easy_getinfo(transfer.easy, CURLINFO_RETRY_AFTER, &seconds);
    *retry_after_ms = seconds > 0 ? (uint64_t)seconds * 1000 : 0;
    *unsent = false;
    if (code == 0) {
        code = judge(client, &transfer, verdict, unsent, error);
    } else {
        (void)chp_error_set(error, code,
                            code == CHP_ETIMEOUT ? "no answer from %s in time"
                                                 : "interrupted while asking %s",
                            client->endpoint->shown);
    }
    (void)curl_multi_remove_handle(multi, transfer.easy);
    (void)curl_multi_cleanup(multi);
    curl_easy_cleanup(transfer.easy);
    curl_slist_free_all(headers);
    chp_buf_deinit(&transfer.line);
    chp_buf_deinit(&url);
    return code;
}

void cli__backoff_init(struct chp_backoff *backoff, uint64_t first_ms, uint64_t max_ms)
{
    uint64_t seed;
    chp_random(&seed, sizeof seed);
    chp_backoff_init(backoff, first_ms / 4, first_ms, max_ms, seed);
}

int cli__client_call(struct cli_client *client, const struct cli_request *request,
                     struct cli_response *response, struct chp_error *error)
{
    CHP_ASSERT(request->path[0] == '/');
    bool repeatable = request->key != NULL || strcmp(request->method, "GET") == 0;
    unsigned tries = request->tries == 0 ? TRIES : request->tries;
    struct chp_backoff backoff;
    cli__backoff_init(&backoff, RETRY_FIRST_MS, RETRY_MAX_MS);
    for (unsigned i = 1;; i++) {
        bool unsent;
        uint64_t retry_after_ms;
        *response = (struct cli_response){0};
        int code = try_once(client, request, response, &unsent, &retry_after_ms, error);
        bool busy = code == 0 && (response->status == 503 || response->status == 429);
        bool broke = code == CHP_EIO && response->status == 0 && repeatable;
        if (i >= tries || !(unsent || busy || broke)) {
            return code;
        }
        cli__response_deinit(response);
        /* Those that were refused together were told the same time: they do not come back
         * together. */
        uint64_t least_ms =
            retry_after_ms < RETRY_AFTER_MAX_MS ? retry_after_ms : RETRY_AFTER_MAX_MS;
        cli__sleep(least_ms + chp_backoff_next_ms(&backoff));
        if (cli__interrupted()) {
            *response = (struct cli_response){0};
            return chp_error_set(error, CHP_ECANCELED, "interrupted while asking %s",
                                 client->endpoint->shown);
        }
    }
}
