#!/bin/bash
# Make the archive of classes for `java` beside this: let every kind of Spark's JVMs work, see what they load, keep it.
set -euo pipefail
export SPARK_HOME=/opt/spark SPARK_LOCAL_IP=127.0.0.1 SPARK_LOCAL_HOSTNAME=127.0.0.1
work=$(mktemp -d)
mkdir -p $SPARK_HOME/cds "$work"/{java/bin,classes,conf,events}

# One jar that names the others, so that their order is the same wherever the image is unpacked.
python - <<'END'
import pathlib, zipfile

home = pathlib.Path("/opt/spark")
# Spark has slf4j-api first, and the others as they come.
jars = sorted((home / "jars").glob("*.jar"), key=lambda path: (not path.name.startswith("slf4j-api"), path.name))
names = " ".join(f"../jars/{path.name}" for path in jars)
line = f"Class-Path: {names}"
# A manifest's lines have 72 bytes at most, and go on behind a space.
lines = [line[:72]] + [" " + line[start : start + 71] for start in range(72, len(line), 71)]
with zipfile.ZipFile(home / "cds" / "spark.jar", "w") as jar:
    jar.writestr("META-INF/MANIFEST.MF", "\n".join(["Manifest-Version: 1.0", *lines, ""]) + "\n")
END

# Every JVM below writes down what it loads. By the wrapper's rule, for the same class path.
sed "s|-XX:SharedArchiveFile=.*\"\$@\"|-XX:DumpLoadedClassList=$work/classes/\$\$ \"\$@\"|" "$JAVA_HOME/bin/java" >"$work/java/bin/java"
grep -q DumpLoadedClassList "$work/java/bin/java"
chmod +x "$work/java/bin/java"
export JAVA_HOME=$work/java SPARK_CONF_DIR=$work/conf SPARK_DAEMON_MEMORY=256m
cat >"$work/conf/spark-defaults.conf" <<END
spark.master spark://127.0.0.1:17077
spark.executor.memory 512m
spark.authenticate true
spark.authenticate.secret for-the-build
spark.dynamicAllocation.enabled true
spark.dynamicAllocation.initialExecutors 1
spark.dynamicAllocation.shuffleTracking.enabled false
spark.decommission.enabled true
spark.storage.decommission.enabled true
spark.eventLog.enabled true
spark.eventLog.dir file://$work/events
END
daemons=()
run() {
    $SPARK_HOME/bin/"$@" &
    daemons+=($!)
}
# Print the answer to a GET, once there is one: port, path.
get() {
    python - "$@" <<'END'
import sys, time, urllib.request
for attempt in range(240):
    try:
        print(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}{sys.argv[2]}", timeout=20).read(200))
        sys.exit()
    except OSError:
        time.sleep(0.25)
sys.exit(f"nothing answers on port {sys.argv[1]}")
END
}
SPARK_DAEMON_JAVA_OPTS="-Dspark.deploy.recoveryMode=FILESYSTEM -Dspark.deploy.recoveryDirectory=$work" \
    run spark-class org.apache.spark.deploy.master.Master --host 127.0.0.1 --port 17077 --webui-port 17080
get 17080 /json/clusterutilization
run spark-class org.apache.spark.deploy.worker.Worker --host 127.0.0.1 --port 17078 --webui-port 17081 \
    --cores 1 --memory 512m --work-dir "$work" spark://127.0.0.1:17077
SPARK_HISTORY_OPTS="-Dspark.history.fs.logDirectory=file://$work/events -Dspark.history.ui.port=17082" \
    run spark-class org.apache.spark.deploy.history.HistoryServer
get 17081 /json/
python - <<'END'
import urllib.request
from pyspark.sql import SparkSession
from pyspark.sql.functions import avg, udf

spark = SparkSession.builder.config("spark.ui.port", "17083").getOrCreate()
people = spark.createDataFrame([("Alice", 1), ("Bob", 2), ("Charlie", 3)], ["name", "age"])
people.join(people.groupBy("name").agg(avg("age").alias("mean")), "name").orderBy("age").collect()
people.select(udf(len, "int")("name")).cache().count()
spark.sql("select count(*), sum(id) from range(100) group by id % 3").show()
spark.range(100).write.mode("overwrite").parquet("/tmp/numbers")
print(spark.read.parquet("/tmp/numbers").repartition(4).count())
pairs = spark.sparkContext.parallelize(range(24), 2).map(lambda number: (number % 6, number))
print(pairs.groupByKey(3).mapValues(len).collect())
application = spark.sparkContext.applicationId
for port, path in (
    (17083, "/metrics/json/"),
    (17083, f"/api/v1/applications/{application}/executors"),
    (17083, f"/api/v1/applications/{application}/stages"),
    (17080, "/json/"),
    (17080, "/json/workers"),
    (17080, f"/app/?appId={application}"),
):
    print(len(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60).read()))
spark.stop()
END
get 17082 /api/v1/applications
SPARK_DAEMON_MEMORY=600m run spark-submit --class org.apache.spark.sql.connect.service.SparkConnectServer --conf spark.ui.port=17084 \
    --conf spark.connect.grpc.binding.port=17085
get 17084 /metrics/json/
until (exec 3<>/dev/tcp/127.0.0.1/17085) 2>/dev/null; do kill -0 "${daemons[-1]}"; sleep 0.25; done
kill "${daemons[@]}"
wait || true

# Numbers are of one JVM's list alone; they are for classes of loaders other than Java's own, which are left out.
cat "$work"/classes/* | sed '/ source: /d; /\$Proxy[0-9]/d; s/ id: [0-9]*$//' | awk '!seen[$0]++' >"$work/classes.lst"
/usr/bin/java -Xshare:dump -XX:SharedClassListFile="$work/classes.lst" -XX:SharedArchiveFile=$SPARK_HOME/cds/spark.jsa \
    -cp $SPARK_HOME/cds/spark.jar >"$work/dump.log" 2>&1 || { tail -20 "$work/dump.log"; exit 1; }
tail -3 "$work/dump.log"
ls -l $SPARK_HOME/cds
rm -rf "$work" /tmp/numbers
