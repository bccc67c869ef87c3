package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// call is a recorded call as a PBX leaves it behind.
type call struct {
	fileName  string
	mediaType string
	// format is sox's or ffmpeg's name of the encoding.
	format   string
	agent    string
	agentID  string
	customer string
	queue    string
	started  time.Time
	lines    []line
}

// line is what one of the two says.
type line struct {
	agent bool
	text  string
}

var dialogues = [][]line{
	{
		{true, "Xin chào, em là Lan, tổng đài chăm sóc khách hàng xin nghe. Cuộc gọi này được ghi âm để bảo đảm chất lượng."},
		{false, "Chào em, anh muốn hỏi về hóa đơn tháng mười. Số tiền cao hơn mọi khi."},
		{true, "Dạ, em kiểm tra ngay. Hóa đơn tháng mười có thêm phí gói cước mới."},
		{false, "À, anh hiểu rồi. Cảm ơn em nhiều."},
	},
	{
		{true, "Xin chào, em là Minh, bộ phận kỹ thuật. Cuộc gọi này được ghi âm. Em có thể giúp gì ạ?"},
		{false, "Mạng nhà tôi bị chậm từ sáng nay."},
		{true, "Dạ, anh vui lòng khởi động lại thiết bị giúp em."},
		{false, "Được rồi, bây giờ đã nhanh hơn. Cảm ơn em."},
	},
	{
		{true, "Xin chào, em là Lan. Cuộc gọi này được ghi âm. Anh chị cần hỗ trợ gì ạ?"},
		{false, "Tôi muốn khiếu nại về đơn hàng giao trễ năm ngày."},
		{true, "Em thành thật xin lỗi. Em sẽ chuyển khiếu nại đến bộ phận giao hàng ngay."},
		{false, "Tôi chờ câu trả lời trong hôm nay."},
	},
}

// calls are the demonstration's calls: three dialogues in the formats and
// under the names that PBXs and softphones write.
func calls(now time.Time) []call {
	day := now.Add(-48 * time.Hour).Truncate(time.Hour)
	at := func(minutes int) time.Time { return day.Add(time.Duration(minutes) * time.Minute) }
	stamp := func(minutes int) string { return at(minutes).Format("20060102-150405") }
	return []call{
		{fmt.Sprintf("in-3201-0901234567-%s-1742043317.12206.wav", stamp(0)), "audio/wav", "pcm", "Nguyễn Thị Lan", "3201", "0901 234 567", "billing", at(0), dialogues[0]},
		{fmt.Sprintf("exten-3202-0912345678-%s-606.wav", stamp(7)), "audio/wav", "alaw", "Trần Văn Minh", "3202", "+84 912 345 678", "support", at(7), dialogues[1]},
		{fmt.Sprintf("force-0987654321-3201-%s-1742043399.12210.WAV", stamp(15)), "audio/wav", "gsm", "Nguyễn Thị Lan", "3201", "84987654321", "complaints", at(15), dialogues[2]},
		{fmt.Sprintf("%s_0933221100-all.mp3", stamp(31)), "audio/mpeg", "mp3", "Trần Văn Minh", "3202", "0933221100", "support", at(31), dialogues[1]},
		{fmt.Sprintf("%s_0901234567.ogg", stamp(45)), "audio/ogg", "opus", "Nguyễn Thị Lan", "3201", "+84901234567", "billing", at(45), dialogues[0]},
	}
}

// sourceID is how the PBX itself tells its calls apart.
func (c call) sourceID() string { return strings.TrimSuffix(c.fileName, filepath.Ext(c.fileName)) }

func (c call) metadata(source string) map[string]any {
	return map[string]any{
		"source": source, "source_id": c.sourceID(), "channel": "voice", "direction": "inbound",
		"started_at": c.started.Format(time.RFC3339), "agent": map[string]string{"id": c.agentID, "name": c.agent},
		"queue": c.queue, "customer": map[string]string{"phone": c.customer}, "ani": c.customer, "dnis": "19001000",
		"disposition": "answered", "tags": []string{"demo"},
	}
}

// record speaks the call below dir, the customer left and the agent right, and
// returns the file's bytes.
func (c call) record(ctx context.Context, dir string) ([]byte, error) {
	left, right := filepath.Join(dir, "left.wav"), filepath.Join(dir, "right.wav")
	var customer, agent []string
	for i, l := range c.lines {
		spoken, silent := filepath.Join(dir, fmt.Sprintf("spoken%d.wav", i)), filepath.Join(dir, fmt.Sprintf("silent%d.wav", i))
		voice, pitch := "vi", "40"
		if l.agent {
			pitch = "75"
		}
		if err := tool(ctx, "espeak-ng", "-v", voice, "-p", pitch, "-s", "170", "-w", spoken, l.text); err != nil {
			return nil, err
		}
		if err := tool(ctx, "sox", spoken, silent, "vol", "0"); err != nil {
			return nil, err
		}
		if l.agent {
			customer, agent = append(customer, silent), append(agent, spoken)
		} else {
			customer, agent = append(customer, spoken), append(agent, silent)
		}
	}
	stereo, file := filepath.Join(dir, "stereo.wav"), filepath.Join(dir, c.fileName)
	for _, step := range [][]string{
		append(append([]string{}, customer...), "-r", "8000", left),
		append(append([]string{}, agent...), "-r", "8000", right),
		{"-M", left, right, stereo},
	} {
		if err := tool(ctx, "sox", step...); err != nil {
			return nil, err
		}
	}
	if err := c.encode(ctx, stereo, file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

func (c call) encode(ctx context.Context, stereo, file string) error {
	switch c.format {
	case "alaw":
		return tool(ctx, "sox", stereo, "-e", "a-law", file)
	case "gsm":
		// GSM knows one channel only, as every PBX that writes it.
		return tool(ctx, "sox", stereo, "-c", "1", "-e", "gsm-full-rate", "-t", "wav", file)
	case "mp3":
		return tool(ctx, "ffmpeg", "-nostdin", "-v", "error", "-y", "-i", stereo, "-c:a", "libmp3lame", "-b:a", "32k", file)
	case "opus":
		return tool(ctx, "ffmpeg", "-nostdin", "-v", "error", "-y", "-i", stereo, "-c:a", "libopus", "-b:a", "24k", file)
	default:
		return os.Rename(stereo, file)
	}
}

func tool(ctx context.Context, name string, args ...string) error {
	output, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, output)
	}
	return nil
}
