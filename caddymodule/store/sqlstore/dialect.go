package sqlstore

import (
	"embed"
	"fmt"
	"strings"
)

// dialect is what differs between the engines in the statements.
type dialect struct {
	name string

	// oneWriter says that all is written by the committer; rows is how many events
	// one statement inserts.
	oneWriter bool
	rows      int

	// ignore and ignoreOrder end an INSERT so that it leaves an event or an order that
	// is there as it is.
	ignore, ignoreOrder string

	// forUpdate locks a row that is selected, skipLocked those that nobody else has
	// locked, and free ends the lease of one that is updated.
	forUpdate, skipLocked, free string

	// payloadEnded ends in when the event of a payload that is there ended, as an
	// index has it.
	payloadEnded string

	// queues selects the queues that have waiting events, and when the first and the
	// last of each is due, from the index alone.
	queues string

	// merchants selects the merchants that have orders with a due, and when the first
	// and the last of each is due, likewise.
	merchants string
}

// skipScan is queues where the engine jumps from one entry of an index to the next
// only if it is told to.
const skipScan = `WITH RECURSIVE
m (merchant) AS (
	SELECT MIN(merchant) FROM wepay_event WHERE state = 'waiting'
	UNION ALL
	SELECT (SELECT MIN(e.merchant) FROM wepay_event e WHERE e.state = 'waiting' AND e.merchant > m.merchant) FROM m WHERE m.merchant IS NOT NULL
),
q (merchant, kind) AS (
	SELECT m.merchant, (SELECT MIN(e.kind) FROM wepay_event e WHERE e.state = 'waiting' AND e.merchant = m.merchant)
	FROM m WHERE m.merchant IS NOT NULL
	UNION ALL
	SELECT q.merchant, (SELECT MIN(e.kind) FROM wepay_event e WHERE e.state = 'waiting' AND e.merchant = q.merchant AND e.kind > q.kind)
	FROM q WHERE q.kind IS NOT NULL
)
SELECT q.merchant, q.kind,
	(SELECT MIN(e.due) FROM wepay_event e WHERE e.state = 'waiting' AND e.merchant = q.merchant AND e.kind = q.kind),
	(SELECT MAX(e.due) FROM wepay_event e WHERE e.state = 'waiting' AND e.merchant = q.merchant AND e.kind = q.kind)
FROM q WHERE q.kind IS NOT NULL`

// skipScanOrders is merchants likewise.
const skipScanOrders = `WITH RECURSIVE
m (merchant) AS (
	SELECT MIN(merchant) FROM wepay_order WHERE due IS NOT NULL
	UNION ALL
	SELECT (SELECT MIN(o.merchant) FROM wepay_order o WHERE o.due IS NOT NULL AND o.merchant > m.merchant) FROM m WHERE m.merchant IS NOT NULL
)
SELECT m.merchant,
	(SELECT MIN(o.due) FROM wepay_order o WHERE o.due IS NOT NULL AND o.merchant = m.merchant),
	(SELECT MAX(o.due) FROM wepay_order o WHERE o.due IS NOT NULL AND o.merchant = m.merchant)
FROM m WHERE m.merchant IS NOT NULL`

//go:embed schema/*.sql
var schemas embed.FS

// schemaVersion is the newest of the schemas, of which each engine has all.
const schemaVersion = 1

// migration returns the statements that make a schema of a version of the one
// before it.
func (d *dialect) migration(version int) ([]string, error) {
	content, err := schemas.ReadFile(fmt.Sprintf("schema/%s_%d.sql", d.name, version))
	if err != nil {
		return nil, fmt.Errorf("reading schema %d: %w", version, err)
	}
	var statements []string
	for _, statement := range strings.Split(string(content), ";\n") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	return statements, nil
}

// migrate brings the schema to the newest version. The caller sees to it that
// no other does at the same time.
func (d *dialect) migrate(s session, replacements *strings.Replacer) error {
	if _, err := s.exec("CREATE TABLE IF NOT EXISTS wepay_schema (version INTEGER NOT NULL)"); err != nil {
		return fmt.Errorf("making the table of the schema's version: %w", err)
	}
	var version int64
	err := s.query("SELECT COALESCE(MAX(version), 0) FROM wepay_schema", func(scan func(...any) error) error { return scan(&version) })
	if err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	if version > schemaVersion {
		return fmt.Errorf("its schema is of version %d, which a newer caddy-wepay made; this one knows %d", version, schemaVersion)
	}
	for version++; version <= schemaVersion; version++ {
		statements, err := d.migration(int(version))
		if err != nil {
			return err
		}
		for _, statement := range append(statements, fmt.Sprintf("INSERT INTO wepay_schema (version) VALUES (%d)", version)) {
			if _, err := s.exec(replacements.Replace(statement)); err != nil {
				return fmt.Errorf("migrating to schema %d: %w", version, err)
			}
		}
	}
	return nil
}

var noReplacements = strings.NewReplacer()
