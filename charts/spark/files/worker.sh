# Start the worker as the container's first process, which is the one that preStop tells to leave.
# It asks for its master by the Service's name again when that has moved to another address.
export SPARK_DAEMON_JAVA_OPTS="$SPARK_DAEMON_JAVA_OPTS -Dspark.worker.preferConfiguredMasterAddress=true"
until (exec 3<>"/dev/tcp/$MASTER_HOST/7077") 2>/dev/null; do
    # The worker would wait for its master by itself, but for seconds longer after each attempt.
    sleep 0.2
done
exec "${SPARK_HOME:+$SPARK_HOME/bin/}spark-class" org.apache.spark.deploy.worker.Worker \
    --host "$POD_IP" --port 7078 --webui-port 8081 --work-dir /tmp/work "$SPARK_MASTER"
