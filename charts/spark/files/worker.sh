# Start the worker. It asks for its master by the Service's name again when that has moved to another address.
export SPARK_DAEMON_JAVA_OPTS="$SPARK_DAEMON_JAVA_OPTS -Dspark.worker.preferConfiguredMasterAddress=true"
# A container's first process gets no signal that it has no handler for, so this shell stays, and hands them on:
# TERM ends the worker, and PWR, by which preStop asks it to leave.
worker=
# What is left then is told by drain.sh; files outlive a container.
ending=${TMPDIR:-/tmp}/trireme-ending
rm -f "$ending"
trap 'touch "$ending"; kill -TERM $worker || exit 0' TERM
trap 'kill -PWR $worker || exit 0' PWR
until (exec 3<>"/dev/tcp/$MASTER_HOST/7077") 2>/dev/null; do
    # The worker would wait for its master by itself, but for seconds longer after each attempt.
    sleep 0.2
done
"${SPARK_HOME:+$SPARK_HOME/bin/}spark-class" org.apache.spark.deploy.worker.Worker \
    --host "$POD_IP" --port 7078 --webui-port 8081 --work-dir /tmp/work "$SPARK_MASTER" &
worker=$!
# A signal ends the wait, not the worker.
while wait $worker; status=$?; [ $status -gt 128 ] && kill -0 $worker 2>/dev/null; do :; done
exit $status
