/* SPDX-License-Identifier: AGPL-3.0-only */
/* The research prototype's two calls, with its forms and the shape of its answers, so that its
 * clients work. */
#include "gateway/internal.h"

#include <string.h>

/* Field command of the form, which must say something. */
static const char *read_command(struct gateway_exchange *exchange)
{
    const char *command = gateway__form_field(exchange->form, "command");
    if (command == NULL || command[strspn(command, " \t\r\n")] == '\0') {
        gateway__refuse(exchange, 0, CHP_EINVAL, "field \"command\" of the form is missing");
        return NULL;
    }
    return command;
}

static int read_config(struct gateway_exchange *exchange, struct chp_request *request,
                       struct chp_error *error)
{
    const char *text = gateway__form_field(exchange->form, "config");
    if (text == NULL || text[strspn(text, " \t\r\n")] == '\0') {
        return 0;
    }
    struct chp_error detail = {0};
    json_t *config = gateway__json_parse(text, strlen(text), &detail);
    if (config == NULL) {
        return chp_error_set(error, CHP_EINVAL, "field \"config\" of the form cannot be read: %s",
                             detail.text);
    }
    int rc = gateway__config_text(config, &exchange->arena, &request->config, error);
    json_decref(config);
    return rc;
}

static int read_undo(struct gateway_exchange *exchange, struct chp_request *request,
                     struct chp_error *error)
{
    const char *undo = gateway__form_field(exchange->form, "undo");
    if (undo == NULL || undo[strspn(undo, " \t\r\n")] == '\0') {
        return 0;
    }
    int rc = gateway__payload_of_shell(undo, &exchange->arena, &request->undo, error);
    return rc != 0 ? rc : chp_undo_check(request->undo, error);
}

static int read_exec(struct gateway_exchange *exchange, const char *command,
                     struct chp_request *request, struct chp_error *error)
{
    struct chp_agent_port *port = &exchange->door->port;
    const char *sites = gateway__form_field(exchange->form, "sites");
    const char *type = gateway__form_field(exchange->form, "type");
    request->resource = exchange->id;
    request->type = type != NULL ? type : "";
    request->scope = sites != NULL && sites[strspn(sites, " \t\r\n")] != '\0' ? sites : NULL;
    request->level = CHP_LEVEL_EVENTUAL;
    request->driver = "shell";
    request->files = gateway__form_files(exchange->form, &request->file_count);
    if (request->type[0] == '\0') {
        return chp_error_set(error, CHP_EINVAL, "field \"type\" of the form is missing");
    }
    int rc = chp_resource_id_check(request->resource, error);
    rc = rc != 0 ? rc : chp_type_check(request->type, error);
    rc = rc != 0 ? rc : read_config(exchange, request, error);
    rc = rc != 0 ? rc
                 : gateway__payload_of_shell(command, &exchange->arena, &request->payload, error);
    rc = rc != 0 ? rc : read_undo(exchange, request, error);
    return rc != 0 ? rc : gateway__request_check(port, request, error);
}

/* A form that was read to its end; what is wrong with it is the client's fault. */
static int finish_form(struct gateway_exchange *exchange)
{
    struct chp_error error = {0};
    int rc = gateway__form_finish(exchange->form, &error);
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
    }
    return rc;
}

static void exec_on_reply(void *user, const struct chp_reply *reply)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    if (exchange == NULL) {
        return;
    }
    if (reply->code != 0) {
        gateway__reply_error(exchange, 0, reply->code, reply->error);
        return;
    }
    struct gateway_watch_options options = {.language = GATEWAY_PROTOTYPE,
                                            .timeout_ms = exchange->door->exec_timeout_ms,
                                            .input =
                                                gateway__form_field(exchange->form, "command")};
    gateway__watch_reply(exchange, reply, &options);
}

void gateway__prototype_exec(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_request request = {.id = chp_uuid_new(), .principal = exchange->principal};
    struct chp_error error = {0};
    const char *command = finish_form(exchange) == 0 ? read_command(exchange) : NULL;
    if (command == NULL || gateway__request_key(exchange, &request) != 0) {
        return;
    }
    int rc = read_exec(exchange, command, &request, &error);
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
        return;
    }
    exchange->asked = true;
    port->vtable->submit(port->agent, &request, exec_on_reply, exchange);
}

/* {site: {Status, Output}} */
static void show_done(struct gateway_exchange *exchange, json_t *answers)
{
    json_t *json = json_object();
    const char *site;
    json_t *answer;
    json_object_foreach(answers, site, answer)
    {
        const char *state = json_string_value(json_object_get(answer, "state"));
        const char *output = json_string_value(json_object_get(answer, "output"));
        const char *reason = json_string_value(json_object_get(answer, "reason"));
        const char *status = strcmp(state, "done") == 0      ? "OK"
                             : strcmp(state, "timeout") == 0 ? "TIMEOUT"
                                                             : "KO";
        if (strcmp(status, "KO") == 0 && output[0] == '\0' && reason != NULL) {
            output = reason;
        }
        (void)json_object_set_new(json, site,
                                  json_pack("{s:s, s:s}", "Status", status, "Output", output));
    }
    gateway__reply_json(exchange, 200, json);
}

void gateway__prototype_show(struct gateway_exchange *exchange)
{
    struct chp_show show = {.driver = "shell", .deadline_ms = exchange->door->exec_timeout_ms};
    struct chp_error error = {0};
    size_t files = 0;
    const char *command = finish_form(exchange) == 0 ? read_command(exchange) : NULL;
    if (command == NULL) {
        return;
    }
    (void)gateway__form_files(exchange->form, &files);
    if (files > 0) {
        gateway__refuse(exchange, 0, CHP_EINVAL, "a show takes no files");
        return;
    }
    int rc = gateway__payload_of_shell(command, &exchange->arena, &show.payload, &error);
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
        return;
    }
    gateway__show(exchange, &show, show_done);
}
