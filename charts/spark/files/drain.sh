# Ask the worker to leave, and wait until its executors have finished their tasks and moved their blocks.
# The grace period bounds the wait.
kill -PWR 1
while grep -qs '[C]oarseGrainedExecutorBackend' /proc/[0-9]*/cmdline; do
    sleep 0.2
done
