# Start a daemon of Spark's standalone mode as the container's first process. Arguments: its class under
# org.apache.spark.deploy, then its own. PySpark from PyPI is all it needs.
SPARK_HOME=${SPARK_HOME:-$(python -c 'import pyspark; print(pyspark.__path__[0])')}
export SPARK_HOME
class=org.apache.spark.deploy.$1
shift
exec "$SPARK_HOME/bin/spark-class" "$class" "$@"
