# Decommission the worker, whose JVM is the container's first process: it is offered no more executors, and those it runs
# finish their tasks, hand over their blocks and leave. Its JVM stays, so their end is waited for, bounded by the grace period.
kill -PWR 1 || exit 0
executors() {
    # The brackets keep this grep from finding itself.
    grep -ls 'CoarseGrained[E]xecutorBackend' /proc/[0-9]*/cmdline
}
while [ -n "$(executors)" ]; do sleep 0.2; done
