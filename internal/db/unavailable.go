package db

import (
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Unavailable says whether err, of an operation on the database, comes of a
// server that does not answer, that is stopping or full, or that broke the
// connection off: nothing was changed, and the same may be asked again later.
// A commit that was lost is ErrCommitUnknown instead.
func Unavailable(err error) bool {
	if err == nil || errors.Is(err, ErrCommitUnknown) {
		return false
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return unavailableCode(refused.Code)
	}
	var unreached *pgconn.ConnectError
	var broken *net.OpError
	return errors.As(err, &unreached) || errors.As(err, &broken) ||
		pgconn.SafeToRetry(err) || errors.Is(err, io.ErrUnexpectedEOF)
}

// unavailableCode knows PostgreSQL's codes for a server that cannot work now.
func unavailableCode(code string) bool {
	const connectionException, tooManyConnections = "08", "53300"
	const adminShutdown, crashShutdown, cannotConnectNow = "57P01", "57P02", "57P03"
	switch code {
	case tooManyConnections, adminShutdown, crashShutdown, cannotConnectNow:
		return true
	}
	return strings.HasPrefix(code, connectionException)
}
