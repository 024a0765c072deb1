#!/usr/bin/python3
# SPDX-License-Identifier: AGPL-3.0-only
"""Ask for an operation over AMQP and print what each site answers, one JSON object a line.

    request.py --amqp amqp://user:password@127.0.0.1:5672/ --site Nantes --id greeting --type set \
        --scope 'Nantes & Rennes' -- sh -c 'echo hello'

Needs python3-pika and python3-msgpack. The broker is that of --site. Ends with 0 when every site is done, 1 when one
is not, 2 when the request was refused, 3 when the time was over, 4 when the broker could not be reached or did not
take the request.
"""
import argparse
import json
import os
import sys
import uuid

import msgpack
import pika

DONE, FAILED, REFUSED, TIMEOUT, UNREACHABLE = range(5)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--amqp", default=os.environ.get("CHEOPS_AMQP"), help="URI of the broker (or CHEOPS_AMQP)")
    parser.add_argument("--site", default=os.environ.get("CHEOPS_SITE"), help="its site (or CHEOPS_SITE)")
    parser.add_argument("--id", required=True, help="id of the resource")
    parser.add_argument("--type", required=True, help="op type, your own tag")
    parser.add_argument("--scope", help="needed when the resource is new")
    parser.add_argument("--level", choices=["none", "eventual"])
    parser.add_argument("--key", help="idempotency key; the same again repeats nothing")
    parser.add_argument("--file", action="append", default=[], metavar="NAME=PATH", help="{NAME} in the command is its path")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for the answers")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    if not args.amqp or not args.site:
        parser.error("--amqp and --site are needed")
    return args


def request_of(args):
    request = {"key": args.key or str(uuid.uuid4()), "resource": args.id, "type": args.type, "command": args.command}
    if args.scope:
        request["scope"] = args.scope
    if args.level:
        request["level"] = args.level
    if args.file:
        request["files"] = []
        for name, path in (item.split("=", 1) for item in args.file):
            with open(path, "rb") as file:
                request["files"].append({"name": name, "content": file.read()})
    return request


def ask(channel, args):
    """Publishes the request; yields the answers until the last one, or until nothing has come for the timeout."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    request = request_of(args)
    channel.confirm_delivery()  # basic_publish then raises when the broker does not take the message
    channel.basic_publish(
        exchange="cheops.site." + args.site,
        routing_key="request",
        body=msgpack.packb(request, use_bin_type=True),
        properties=pika.BasicProperties(content_type="application/msgpack", delivery_mode=2, reply_to=queue,
                                        correlation_id=request["key"], message_id=request["key"]),
        mandatory=True)
    for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=args.timeout):
        if method is None:
            return
        if properties.correlation_id == request["key"]:
            yield msgpack.unpackb(body, raw=False)


def printable(answer):
    if "output" in answer:
        answer = dict(answer, output=answer["output"].decode("utf-8", "replace"))
    return json.dumps(answer)


def main():
    args = arguments()
    try:
        connection = pika.BlockingConnection(pika.URLParameters(args.amqp))
        for answer in ask(connection.channel(), args):
            print(printable(answer), flush=True)
            if answer["kind"] == "refused":
                return REFUSED
            if answer["kind"] == "completed":
                return DONE if answer["state"] == "done" else FAILED
    except pika.exceptions.AMQPError as error:
        print(f"broker: {error!r}", file=sys.stderr)
        return UNREACHABLE
    print("no answer in time; ask again with the same --key", file=sys.stderr)
    return TIMEOUT


if __name__ == "__main__":
    sys.exit(main())
