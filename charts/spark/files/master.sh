# Start the master as the container's first process. It writes down who it knows, so that a restart loses no application.
# Outsiders may look, and neither submit through its REST API nor send workers away or end applications.
export SPARK_DAEMON_JAVA_OPTS="$SPARK_DAEMON_JAVA_OPTS
    -Dspark.deploy.recoveryMode=FILESYSTEM -Dspark.deploy.recoveryDirectory=/var/lib/spark
    -Dspark.master.rest.enabled=false -Dspark.master.ui.decommission.allow.mode=DENY -Dspark.ui.killEnabled=false"
exec "${SPARK_HOME:+$SPARK_HOME/bin/}spark-class" org.apache.spark.deploy.master.Master \
    --host "$POD_IP" --port 7077 --webui-port 8080
