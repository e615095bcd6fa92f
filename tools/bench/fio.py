# SPDX-License-Identifier: GPL-2.0
"""Runs fio on a disk."""

import json

import lib


def run(dev, work, *options):
    """(requests, nanoseconds) of a work; options say how much of it."""
    done = lib.run("fio", "--name=bench", f"--filename={dev}", "--thread",
                   "--ioengine=io_uring", "--direct=1", f"--rw={work.rw}",
                   f"--bs={work.block}", f"--iodepth={work.depth}",
                   "--gtod_reduce=1", "--group_reporting",
                   "--output-format=json", *options, timeout=3600)
    # It may say something in front.
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    side = job["read"] if work.rw.endswith("read") else job["write"]
    if not side["total_ios"] or job["error"]:
        raise lib.Fail(f"fio on {dev}: {done.stdout}{done.stderr}")
    return side["total_ios"], side["runtime"] * 1e6


def per_request(dev, work, number, *options):
    """Nanoseconds for each of a number of requests."""
    ios, ns = run(dev, work, f"--number_ios={number}", *options)
    return ns / ios


def per_second(dev, work, jobs, seconds):
    """Requests a second, of some threads."""
    ios, ns = run(dev, work, f"--numjobs={jobs}", "--time_based",
                  f"--runtime={seconds}")
    return ios * 1e9 / ns
