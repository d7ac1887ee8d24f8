# Start the history server. It looks for new event logs every 10 s, and takes those away that are older than a week.
export SPARK_HISTORY_OPTS="$SPARK_HISTORY_OPTS -Dspark.history.fs.logDirectory=$EVENT_LOG -Dspark.history.ui.port=18080
    -Dspark.history.fs.update.interval=10s -Dspark.history.fs.cleaner.enabled=true"
exec "${SPARK_HOME:+$SPARK_HOME/bin/}spark-class" org.apache.spark.deploy.history.HistoryServer
