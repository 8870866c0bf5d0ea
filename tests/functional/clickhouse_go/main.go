package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

func check(err error) {
	if err != nil {
		fmt.Println("ERR", err)
		os.Exit(1)
	}
}

func main() {
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr:     []string{os.Args[1]},
		Protocol: clickhouse.HTTP,
		Auth:     clickhouse.Auth{Database: "t", Username: "writer", Password: os.Getenv("STORE_PASSWORD")},
		Settings: clickhouse.Settings{"max_execution_time": 60},
	})
	check(err)
	ctx := context.Background()
	check(conn.Ping(ctx))
	check(conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS go (x UInt32, s String, t DateTime) ENGINE = MergeTree ORDER BY x"))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO go (x, s, t)")
	check(err)
	for i := 0; i < 1000; i++ {
		check(batch.Append(uint32(i), fmt.Sprint("row ", i), time.Unix(int64(i), 0)))
	}
	check(batch.Send())
	rows, err := conn.Query(ctx, "SELECT x, s, t FROM go WHERE x >= ? ORDER BY x LIMIT 2", 500)
	check(err)
	for rows.Next() {
		var x uint32
		var s string
		var t time.Time
		check(rows.Scan(&x, &s, &t))
		fmt.Println(x, s, t.Unix())
	}
	check(rows.Err())
	var n uint64
	check(conn.QueryRow(ctx, "SELECT count() FROM go").Scan(&n))
	fmt.Println("count", n)
}
