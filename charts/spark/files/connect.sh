# Start the Spark Connect server: an application of this cluster, whose sessions are its clients'.
until (exec 3<>"/dev/tcp/$MASTER_HOST/7077") 2>/dev/null; do
    # It would wait for its master by itself, but for seconds longer after each attempt.
    sleep 0.2
done
exec "${SPARK_HOME:+$SPARK_HOME/bin/}spark-submit" \
    --class org.apache.spark.sql.connect.service.SparkConnectServer --name "Spark Connect" --conf spark.ui.port=4040
