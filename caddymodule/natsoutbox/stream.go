package natsoutbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// duplicateWindow is how long the stream knows an event by its Nats-Msg-Id:
// longer than WeChat goes on to repeat a notification, which is 24 hours and 4
// minutes. See write for what comes after.
const duplicateWindow = 25 * time.Hour

// leastVersion is the first NATS that forgets single messages after a time, and
// compares the last message of a pattern.
var leastVersion = [2]int{2, 11}

func checkVersion(version string) error {
	var v [2]int
	if _, err := fmt.Sscanf(version, "%d.%d.", &v[0], &v[1]); err != nil {
		return fmt.Errorf("its version %q cannot be read: %w", version, err)
	}
	if slices.Compare(v[:], leastVersion[:]) < 0 {
		return fmt.Errorf("it is version %s: needs %d.%d or later", version, leastVersion[0], leastVersion[1])
	}
	return nil
}

// eventsConfig is how the stream of events is made.
func (n names) eventsConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              n.events(),
		Description:       "caddy-wepay: events on their way to the order services",
		Subjects:          []string{n.eventSubjects()},
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Replicas:          replicas,
		Discard:           jetstream.DiscardNew,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgSize:        -1,
		MaxMsgsPerSubject: 1,
		Duplicates:        duplicateWindow,
		AllowMsgTTL:       true,
	}
}

// lettersConfig is how the stream of dead letters is made.
func (n names) lettersConfig(replicas int) jetstream.StreamConfig {
	c := n.eventsConfig(replicas)
	c.Name, c.Subjects = n.letters(), []string{n.letterSubjects()}
	c.Description = "caddy-wepay: events that were given up"
	c.Duplicates, c.AllowMsgTTL = 0, false
	return c
}

// prepare makes the streams, or checks those that there are.
func (s *store) prepare(ctx context.Context, replicas int) error {
	events, err := s.prepareStream(ctx, s.stream.eventsConfig(replicas))
	if err != nil {
		return err
	}
	letters, err := s.prepareStream(ctx, s.stream.lettersConfig(replicas))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events == nil {
		s.events, s.letters = events, letters
		s.use(identity{s.stream.events(), events.CachedInfo().Created.UnixNano()})
	}
	return nil
}

func (s *store) prepareStream(ctx context.Context, want jetstream.StreamConfig) (stream jetstream.Stream, err error) {
	err = s.retry(ctx, func(ctx context.Context) error {
		began := s.clock.local()
		stream, err = s.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = s.js.CreateStream(ctx, want)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node has just made it
				stream, err = s.js.Stream(ctx, want.Name)
			}
		}
		if errors.Is(err, nats.ErrNoResponders) { // and so it will stay
			return jetstream.ErrJetStreamNotEnabled
		}
		if err == nil {
			s.clock.note(stream.CachedInfo().TimeStamp, began)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making sure of the stream %s: %w%s", want.Name, err, advice(err))
	}
	return stream, checkStream(stream.CachedInfo().Config, want)
}

// advice says what to do about what the server says, where that is not plain.
func advice(err error) string {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return " (enable JetStream in the servers' config, and for this account)"
	case errors.As(err, &api) && strings.Contains(api.Description, "replicas > 1"):
		return " (this server is in no cluster: set replicas 1)"
	case errors.As(err, &api) && api.ErrorCode == errCodeOverlap:
		return " (another stream takes these subjects: name another stream here, or take them from that one; `nats stream ls --subject` finds it)"
	case errors.As(err, &api) && api.ErrorCode == errCodeNoPeers:
		return " (are there as many servers as replicas, and are they up?)"
	case errors.Is(err, context.DeadlineExceeded):
		return " (is JetStream enabled, has its cluster a leader, and may this user use $JS.API.>?)"
	default:
		return ""
	}
}

// checkStream says what of a stream is not as it must be. The rest is its
// operator's: limits of its bytes, placement, compression, tags.
func checkStream(got, want jetstream.StreamConfig) error {
	var wrong []string
	for _, setting := range []struct {
		name      string
		ok        bool
		set, need any
	}{
		{"subjects", slices.Equal(got.Subjects, want.Subjects), got.Subjects, want.Subjects},
		{"retention", got.Retention == want.Retention, got.Retention, want.Retention},
		{"storage", got.Storage == want.Storage, got.Storage, want.Storage},
		{"num_replicas", got.Replicas == want.Replicas, got.Replicas, want.Replicas},
		{"discard", got.Discard == want.Discard, got.Discard, want.Discard},
		{"discard_new_per_subject", !got.DiscardNewPerSubject, got.DiscardNewPerSubject, false},
		{"max_age", got.MaxAge == 0, got.MaxAge, "none"},
		{"max_msgs", got.MaxMsgs <= 0, got.MaxMsgs, -1},
		{"max_msgs_per_subject", got.MaxMsgsPerSubject == want.MaxMsgsPerSubject, got.MaxMsgsPerSubject, want.MaxMsgsPerSubject},
		{"max_msg_size", got.MaxMsgSize <= 0, got.MaxMsgSize, -1},
		{"max_consumers", got.MaxConsumers <= 0, got.MaxConsumers, -1},
		{"duplicate_window", got.Duplicates >= want.Duplicates, got.Duplicates, want.Duplicates.String() + " or longer"},
		{"allow_msg_ttl", got.AllowMsgTTL || !want.AllowMsgTTL, got.AllowMsgTTL, true},
		{"allow_direct", !got.AllowDirect, got.AllowDirect, false},
		{"deny_delete", !got.DenyDelete, got.DenyDelete, false},
		{"no_ack", !got.NoAck, got.NoAck, false},
		{"sealed", !got.Sealed, got.Sealed, false},
		{"subject_delete_marker_ttl", got.SubjectDeleteMarkerTTL == 0, got.SubjectDeleteMarkerTTL, "none"},
		{"allow_msg_counter", !got.AllowMsgCounter, got.AllowMsgCounter, false},
		{"consumer_limits.inactive_threshold", got.ConsumerLimits.InactiveThreshold == 0 || got.ConsumerLimits.InactiveThreshold >= consumerKeep, got.ConsumerLimits.InactiveThreshold, consumerKeep.String() + " or longer"},
		{"persist_mode", got.PersistMode == want.PersistMode, got.PersistMode, want.PersistMode},
		{"mirror", got.Mirror == nil, "set", "none"},
		{"sources", len(got.Sources) == 0, "set", "none"},
		{"subject_transform", got.SubjectTransform == nil, "set", "none"},
	} {
		if !setting.ok {
			wrong = append(wrong, fmt.Sprintf("%s is %v, needed is %v", setting.name, setting.set, setting.need))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("the stream %s is set up otherwise: %s. Change it with `nats stream edit %s`, change the outbox's options, or name another stream",
		got.Name, strings.Join(wrong, "; "), got.Name)
}
